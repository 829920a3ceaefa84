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

/// Not added if the library does not offer it, which resolve() does not know.
void add(std::vector<EspSuite>& suites, std::string name, CryptoParams params) {
  if (const auto resolved = resolve(params, kLegacyPermitted); !resolved) {
    throw std::runtime_error(name + ": " + resolved.error().message);
  }
  CryptoBackends backends;
  backends.permit(kLegacyPermitted);
  if (!make_sealer_factory(params, backends)) return;
  suites.push_back({std::move(name), std::move(params)});
}

void add_aead(std::vector<EspSuite>& suites, std::string name, const char* algorithm,
              std::size_t key_size, std::uint32_t icv_size) {
  CryptoParams params;
  params.aead = AeadParams{algorithm, key_of(key_size), icv_size * 8};
  add(suites, std::move(name), std::move(params));
}

struct MacCase {
  const char* name;
  const char* algorithm;
  std::size_t key_size;
  std::uint32_t truncation_bits;
};

void add_pair(std::vector<EspSuite>& suites, const std::string& name, const char* cipher,
              std::size_t key_size, const MacCase& mac) {
  CryptoParams params;
  params.cipher = CipherParams{cipher, key_of(key_size)};
  params.mac = MacParams{mac.algorithm, key_of(mac.key_size), mac.truncation_bits};
  add(suites, name + "_" + mac.name, std::move(params));
}

std::vector<EspSuite> make_suites() {
  const MacCase sha1{"sha1_96", "hmac(sha1)", 20, 96};
  const MacCase sha256{"sha256_128", "hmac(sha256)", 32, 128};
  const MacCase md5{"md5_96", "hmac(md5)", 16, 0};
  std::vector<EspSuite> suites;
  for (const std::size_t key_size : {16U, 24U, 32U}) {
    const std::string bits = std::to_string(key_size * 8);
    for (const std::uint32_t icv_size : {8U, 12U, 16U}) {
      const std::string name = bits + "_icv" + std::to_string(icv_size);
      add_aead(suites, "gcm_" + name, "rfc4106(gcm(aes))", key_size + 4, icv_size);
    }
    const std::uint32_t icv_size = static_cast<std::uint32_t>(key_size) / 2;  // 8, 12, 16
    add_aead(suites, "ccm_" + bits + "_icv" + std::to_string(icv_size), "rfc4309(ccm(aes))",
             key_size + 3, icv_size);
    add_aead(suites, "gmac_" + bits, "rfc4543(gcm(aes))", key_size + 4, 16);
    for (const MacCase& mac : {sha1, MacCase{"sha256_96", "hmac(sha256)", 32, 0}, sha256,
                               MacCase{"sha384_192", "hmac(sha384)", 48, 192},
                               MacCase{"sha512_256", "hmac(sha512)", 64, 256},
                               MacCase{"sha512_512", "hmac(sha512)", 64, 512}}) {
      add_pair(suites, "cbc_" + bits, "cbc(aes)", key_size, mac);
    }
    add_pair(suites, "ctr_" + bits, "rfc3686(ctr(aes))", key_size + 4, sha256);
    add_pair(suites, "camellia_" + bits, "cbc(camellia)", key_size, sha256);
  }
  add_aead(suites, "chacha20_poly1305", "rfc7539esp(chacha20,poly1305)", 36, 16);
  for (const MacCase& mac :
       {md5, MacCase{"rmd160_96", "hmac(rmd160)", 20, 0}, MacCase{"sm3_256", "hmac(sm3)", 32, 0},
        MacCase{"xcbc_96", "xcbc(aes)", 16, 0}, MacCase{"cmac_96", "cmac(aes)", 16, 0}}) {
    add_pair(suites, "cbc_128", "cbc(aes)", 16, mac);
  }
  for (const MacCase& mac : {sha1, sha256}) {
    add_pair(suites, "null", "ecb(cipher_null)", 0, mac);
  }
  add_pair(suites, "sm4", "cbc(sm4)", 16, sha256);
  add_pair(suites, "des3", "cbc(des3_ede)", 24, sha1);
  for (const std::size_t key_size : {5U, 16U}) {
    add_pair(suites, "cast5_" + std::to_string(key_size * 8), "cbc(cast5)", key_size, sha1);
  }
  for (const std::size_t key_size : {5U, 56U}) {
    add_pair(suites, "blowfish_" + std::to_string(key_size * 8), "cbc(blowfish)", key_size, sha1);
  }
  add_pair(suites, "des", "cbc(des)", 8, md5);
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
    CryptoBackends openssl;
    openssl.permit(kLegacyPermitted);
    made.push_back({"openssl", std::move(openssl), nullptr});
    try {
      auto backends = CryptoBackends::select(BackendPreference::kIpsecMb, kLegacyPermitted);
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
  CryptoBackends openssl;
  openssl.permit(kLegacyPermitted);
  const auto factory = make_sealer_factory(params, openssl);
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
