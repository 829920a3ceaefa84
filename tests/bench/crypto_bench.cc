// SPDX-License-Identifier: Apache-2.0
// What ESP costs above the bare cipher, by library, algorithm and size. Keys are expanded once.
//
//   cmake --preset release -DXFRMFS_BUILD_BENCH=ON && cmake --build --preset release
//   build/release/crypto_bench
//
// An iteration is 64 packets that lie one behind the other in memory, in calls of `run` packets;
// "time" is per iteration, items_per_second is packets; best_ns is the best iteration's time for
// one packet, which a busy machine does not blur.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <openssl/evp.h>

#include "engine/crypto/random_pool.h"
#include "engine/transform/esp.h"
#include "tests/support/esp_suites.h"
#ifdef XFRMFS_IPSEC_MB
#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>
#endif

namespace xfrmfs::testing {
namespace {

using namespace engine;

constexpr std::size_t kPackets = 64;
constexpr std::size_t kSlot = 2048;
constexpr std::size_t kOverhead = 16;  // ESP header and IV

struct Memory {
  std::vector<std::byte> bytes = std::vector<std::byte>(kPackets * kSlot);
  std::byte* packet(std::size_t i) { return bytes.data() + i * kSlot; }
  unsigned char* text(std::size_t i) {
    return reinterpret_cast<unsigned char*>(packet(i) + kOverhead);
  }
};

/// `work` on all packets, timed; `prepare` before it, not timed.
template <class Prepare, class Work>
void measure(benchmark::State& state, Prepare prepare, Work work) {
  double best = std::numeric_limits<double>::max();
  for (auto _ : state) {
    prepare();
    const auto begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    state.SetIterationTime(spent.count());
    best = std::min(best, spent.count());
  }
  state.counters["best_ns"] = best * 1e9 / static_cast<double>(kPackets);
  const auto packets = state.iterations() * static_cast<std::int64_t>(kPackets);
  state.SetItemsProcessed(packets);
  state.SetBytesProcessed(packets * state.range(0));
}

constexpr std::array<unsigned char, 16> kKey = {1, 2, 3};
constexpr std::array<unsigned char, 12> kNonce = {4, 5, 6};
constexpr int kTag = 16;

void bare_openssl(benchmark::State& state) {
  Memory memory;
  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(
      EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  EVP_EncryptInit_ex2(context.get(), EVP_aes_128_gcm(), kKey.data(), kNonce.data(), nullptr);
  const int size = static_cast<int>(state.range(0));
  measure(
      state, [] {},
      [&] {
        for (std::size_t i = 0; i < kPackets; ++i) {
          unsigned char* const text = memory.text(i);
          int written = 0;
          EVP_EncryptInit_ex2(context.get(), nullptr, nullptr, kNonce.data(), nullptr);
          EVP_EncryptUpdate(context.get(), nullptr, &written, text - kOverhead, 8);
          EVP_EncryptUpdate(context.get(), text, &written, text, size);
          EVP_EncryptFinal_ex(context.get(), text + size, &written);
          EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kTag, text + size);
        }
      });
}

#ifdef XFRMFS_IPSEC_MB
void bare_ipsec_mb(benchmark::State& state) {
  Memory memory;
  const std::unique_ptr<IMB_MGR, decltype(&free_mb_mgr)> manager(alloc_mb_mgr(0), &free_mb_mgr);
  init_mb_mgr_auto(manager.get(), nullptr);
  alignas(64) gcm_key_data key;
  IMB_AES128_GCM_PRE(manager.get(), kKey.data(), &key);
  const auto size = static_cast<std::uint64_t>(state.range(0));
  measure(
      state, [] {},
      [&] {
        for (std::size_t i = 0; i < kPackets; ++i) {
          unsigned char* const text = memory.text(i);
          gcm_context_data context;
          IMB_AES128_GCM_ENC(manager.get(), &key, &context, text, text, size, kNonce.data(),
                             text - kOverhead, 8, text + size, kTag);
        }
      });
}
#endif

class EspBench {
 public:
  EspBench(const EspSuite& suite, const EspBackend& backend, std::size_t size, std::size_t run)
      : size_(size),
        run_(run),
        esp_(Esp::create(Spi{0x100}, false, suite.params, 1, std::nullopt, backend.backends)
                 .value()),
        lane_{.ivs = &ivs_, .crypto = backend.lane.get()} {}

  void seal() {
    for (std::size_t i = 0; i < kPackets; i += run_) {
      for (std::size_t k = 0; k < run_; ++k) {
        std::byte* const packet = memory_.packet(i + k);
        sealed_[k] = {.packet = packet,
                      .room = kSlot,
                      .payload = packet + esp_->head_size(),
                      .size = size_,
                      .next_header = Protocol::kIpip,
                      .sequence = ++sequence_};
      }
      esp_->seal(lane_, {sealed_.data(), run_});
    }
  }
  void open() {
    const std::size_t whole = esp_->sealed_size(size_);
    SeqNo sequence = sequence_ - kPackets;
    for (std::size_t i = 0; i < kPackets; i += run_) {
      for (std::size_t k = 0; k < run_; ++k) {
        opened_[k] = {.data = memory_.packet(i + k), .size = whole, .sequence = ++sequence};
      }
      esp_->open(lane_, {opened_.data(), run_});
    }
  }
  bool right() const {
    return opened_[0].result == OpenResult::kOpened && opened_[0].size == size_;
  }

 private:
  const std::size_t size_;
  const std::size_t run_;
  Memory memory_;
  RandomPool ivs_;
  std::unique_ptr<Esp> esp_;
  const Lane lane_;
  std::array<SealItem, kPackets> sealed_;
  std::array<OpenItem, kPackets> opened_;
  SeqNo sequence_ = 0;
};

void add_benchmarks() {
  const auto sizes = [](benchmark::internal::Benchmark* bench) {
    bench->ArgName("size")->UseManualTime();
    for (const int size : {64, 576, 1400}) bench->Arg(size);
  };
  sizes(benchmark::RegisterBenchmark("bare/gcm_128/openssl", bare_openssl));
#ifdef XFRMFS_IPSEC_MB
  sizes(benchmark::RegisterBenchmark("bare/gcm_128/ipsec_mb", bare_ipsec_mb));
#endif
  for (const EspSuite& suite : esp_suites()) {
    for (const EspBackend& backend : esp_backends()) {
      for (const bool sealing : {true, false}) {
        const std::string name = (sealing ? "seal/" : "open/") + suite.name + "/" + backend.name;
        auto* const made = benchmark::RegisterBenchmark(
            name.c_str(), [&suite, &backend, sealing](benchmark::State& state) {
              EspBench esp(suite, backend, static_cast<std::size_t>(state.range(0)),
                           static_cast<std::size_t>(state.range(1)));
              const auto seal = [&] { esp.seal(); };
              if (sealing) {
                measure(state, [] {}, seal);
                return;
              }
              measure(state, seal, [&] { esp.open(); });
              if (!esp.right()) state.SkipWithError("not opened");
            });
        made->ArgNames({"size", "run"})->UseManualTime();
        for (const int size : {64, 576, 1400}) {
          for (const int run : {1, 4, 32}) made->Args({size, run});
        }
      }
    }
  }
}

}  // namespace
}  // namespace xfrmfs::testing

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  xfrmfs::testing::add_benchmarks();
  benchmark::RunSpecifiedBenchmarks();
}
