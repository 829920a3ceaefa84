// SPDX-License-Identifier: Apache-2.0
#include "tests/support/esp_suites.h"

#include <cstring>
#include <stdexcept>
#include <system_error>

#include "engine/base/bytes.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

constexpr std::size_t kEspHeaderSize = 8;

Secret key_of(std::size_t size) {
  std::vector<std::byte> key(size);
  for (std::size_t i = 0; i < size; ++i) key[i] = static_cast<std::byte>(i * 7 + size);
  return Secret(key);
}

EspSuite finish(std::string name, CryptoParams params) {
  if (const auto resolved = resolve(params); !resolved) {
    throw std::runtime_error(name + ": " + resolved.error().message);
  }
  return {std::move(name), std::move(params)};
}

std::vector<EspSuite> make_suites() {
  std::vector<EspSuite> suites;
  for (const std::size_t key_size : {16U, 24U, 32U}) {
    const std::string bits = std::to_string(key_size * 8);
    for (const std::uint32_t icv_size : {8U, 12U, 16U}) {
      CryptoParams params;
      params.aead = AeadParams{"rfc4106(gcm(aes))", key_of(key_size + 4), icv_size * 8};
      suites.push_back(
          finish("gcm_" + bits + "_icv" + std::to_string(icv_size), std::move(params)));
    }
    struct MacCase {
      const char* name;
      const char* algorithm;
      std::size_t key_size;
      std::uint32_t truncation_bits;
    };
    for (const MacCase& mac :
         {MacCase{"sha1_96", "hmac(sha1)", 20, 96}, MacCase{"sha256_96", "hmac(sha256)", 32, 0},
          MacCase{"sha256_128", "hmac(sha256)", 32, 128},
          MacCase{"sha384_192", "hmac(sha384)", 48, 192},
          MacCase{"sha512_256", "hmac(sha512)", 64, 256},
          MacCase{"sha512_512", "hmac(sha512)", 64, 512}}) {
      CryptoParams params;
      params.cipher = CipherParams{"cbc(aes)", key_of(key_size)};
      params.mac = MacParams{mac.algorithm, key_of(mac.key_size), mac.truncation_bits};
      suites.push_back(finish("cbc_" + bits + "_" + mac.name, std::move(params)));
    }
  }
  return suites;
}

}  // namespace

const std::vector<EspSuite>& esp_suites() {
  static const std::vector<EspSuite> suites = make_suites();
  return suites;
}

const std::vector<EspBackend>& esp_backends() {
  static const std::vector<EspBackend> all = [] {
    std::vector<EspBackend> made;
    made.push_back({"openssl", {}, nullptr});
    try {
      auto backends = CryptoBackends::select(BackendPreference::kIpsecMb);
      auto lane = backends.make_lane();
      made.push_back({"ipsec_mb", std::move(backends), std::move(lane)});
    } catch (const std::system_error&) {
      // not in this build
    }
    return made;
  }();
  return all;
}

EspForger::EspForger(const CryptoParams& params, bool extended) {
  const auto factory = make_sealer_factory(params);
  if (!factory) throw std::runtime_error(factory.error().message);
  shape_ = (*factory)->shape();
  sealer_ = (*factory)->make_sealer(extended);
}

std::vector<std::byte> EspForger::forge(Spi spi, SeqNo sequence, std::span<const std::byte> text) {
  const std::size_t head = kEspHeaderSize + shape_.iv_size;
  std::vector<std::byte> packet(head + text.size() + shape_.icv_size);
  store_be32(packet.data(), static_cast<std::uint32_t>(spi));
  store_be32(packet.data() + 4, static_cast<std::uint32_t>(sequence));
  if (!text.empty()) std::memcpy(packet.data() + head, text.data(), text.size());
  Box box{.packet = packet.data(),
          .text_size = static_cast<std::uint32_t>(text.size()),
          .sequence = sequence};
  sealer_->seal({&box, 1}, nullptr);
  if (box.result != BoxResult::kDone) throw std::runtime_error("cannot seal this text");
  return packet;
}

void FixedIvs::fill(MutableBytes iv) noexcept {
  for (std::size_t i = 0; i < iv.size(); ++i) iv[i] = bytes_[i % bytes_.size()];
}

}  // namespace xfrmfs::testing
