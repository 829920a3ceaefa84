// SPDX-License-Identifier: Apache-2.0
// An engine without devices behind a control socket, for tests that drive it with real tools.
//
//   control_endpoint PATH      prints "ready" when it listens there; until SIGTERM or SIGINT

#include <csignal>
#include <cstdio>
#include <exception>

#include "engine/engine.h"
#include "netio/asio.h"
#include "netio/control_server.h"
#include "netio/housekeeping.h"
#include "netio/system_clock.h"

int main(int argc, char** argv) {
  using namespace xfrmfs;
  if (argc != 2) {
    std::fprintf(stderr, "usage: control_endpoint PATH\n");
    return 2;
  }
  try {
    const netio::SystemClock clock;
    engine::Engine engine(1, clock);
    netio::asio::io_context io(1);
    netio::Housekeeping housekeeping(io, engine, [] {});
    const netio::ControlServer server(io, engine, argv[1], [&] { housekeeping.engine_changed(); });
    netio::asio::signal_set signals(io, SIGTERM, SIGINT);
    signals.async_wait([&](const boost::system::error_code&, int) { io.stop(); });
    std::puts("ready");
    std::fflush(stdout);
    io.run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "control_endpoint: %s\n", e.what());
    return 1;
  }
}
