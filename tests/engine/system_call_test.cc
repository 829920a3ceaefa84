// SPDX-License-Identifier: Apache-2.0
// Does the packet path enter the kernel?  It must not: under strict seccomp, where anything but
// reading and writing ends the process, trains and packets go through both paths all the same.

#include <gtest/gtest.h>

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>

#include "tests/support/gateway.h"

namespace xfrmfs::testing {
namespace {

using namespace engine;

/// Keeps nothing but numbers: the collectors of other tests allocate.
class Counter final : public WireSink, public ClearSink {
 public:
  void transmit(SealedPacket train) noexcept override {
    if (!arrived.full()) arrived.push(std::move(train));
  }
  Joins joins() const noexcept override { return {.tcp = true, .udp = true}; }
  bool deliver(const ClearTrain& train) noexcept override {
    delivered += train.packets();
    return true;
  }

  Batch<SealedPacket> arrived;
  std::size_t delivered = 0;
};

struct Tunnel {
  ManualClock clock;
  Engine engine{1, clock, CryptoBackends::select(BackendPreference::kAuto)};
  PacketPool pool{3 * kBatch};
  Counter counter;
  std::unique_ptr<OutboundPath> outbound = engine.make_outbound(0);
  std::unique_ptr<InboundPath> inbound = engine.make_inbound(0);
  Batch<ClearPacket> batch;
  PacketData packet = make(UdpPacket{.source = "192.0.1.1", .destination = "192.0.2.1"});
  Super train = Super::of(TcpPacket{.source = "192.0.1.1",
                                    .destination = "192.0.2.1",
                                    .payload_size = 40000,
                                    .options_size = 0},
                          1000);

  explicit Tunnel(bool cbc) {
    const char* west = "192.1.2.45";
    const char* east = "192.1.2.23";
    std::ignore =
        engine.add_sa(make(TunnelSa{.source = west, .destination = east, .cbc = cbc})).value();
    for (const Direction direction : {Direction::kOut, Direction::kForward}) {
      std::ignore = engine
                        .add_policy(make(TunnelPolicy{.direction = direction,
                                                      .source = "192.0.1.0/24",
                                                      .destination = "192.0.2.0/24",
                                                      .tunnel_source = west,
                                                      .tunnel_destination = east}))
                        .value();
    }
    engine.publish();
  }

  /// The number of packets that came out at the other end.
  std::size_t round() {
    counter.delivered = 0;
    for (int i = 0; i < 10; ++i) batch.push(ClearPacket(in_buffer(pool, packet)));
    batch.push(ClearPacket(in_buffer(pool, train.bytes), train.cut, train.segment_size));
    outbound->process(batch, pool, counter, counter);
    inbound->process(counter.arrived, counter);
    return counter.delivered;
  }
};

/// In a child process: 0 if all packets went through.
[[noreturn]] void run_confined(bool cbc) {
  Tunnel tunnel(cbc);
  int status = tunnel.round() == 50 ? 0 : 1;
  // CBC fetches random numbers for its IVs once in many packets; two rounds are within one.
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) status = 2;
  if (tunnel.round() != 50) status = 1;
  ::syscall(SYS_exit, status);  // exit_group is not allowed
  __builtin_unreachable();
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;  // the sanitizers enter the kernel when they like
#else
constexpr bool kSanitized = false;
#endif

TEST(SystemCallTest, PathsMakeNone) {
  if (kSanitized) return;
  for (const bool cbc : {false, true}) {
    EXPECT_EXIT(run_confined(cbc), ::testing::ExitedWithCode(0), "");
  }
}

TEST(SystemCallTest, TheGuardNoticesOne) {
  if (kSanitized) return;
  EXPECT_EXIT(
      {
        ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
        ::syscall(SYS_getpid);
      },
      ::testing::KilledBySignal(SIGKILL), "");
}

}  // namespace
}  // namespace xfrmfs::testing
