// SPDX-License-Identifier: Apache-2.0
#include "mount/service.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <optional>
#include <system_error>
#include <tuple>
#include <utility>

#include <fmt/core.h>

#include <pthread.h>
#include <unistd.h>

#include "mount/log.h"
#include "mount/run_directory.h"
#include "netio/esp_socket.h"
#include "netio/rtnetlink.h"

namespace xfrmfs {
namespace {

constexpr std::uint32_t kMinMtu = 68;
constexpr std::uint16_t kDefaultUdpPort = 4500;  // RFC 3947 §4

/// All signals wait while this lives. Threads made meanwhile never get any, so that the control
/// thread gets them all.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    std::ignore = ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { std::ignore = ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

std::uint32_t tun_mtu(const MountOptions& options) {
  netio::Rtnetlink kernel;
  const auto links = kernel.links();
  const auto underlay =
      netio::underlay_mtu(links, options.underlay, kernel.default_route_link(), 0);
  if (!underlay) {
    throw std::system_error(ENODEV, std::generic_category(),
                            fmt::format("underlay \"{}\"", options.underlay));
  }
  return options.mtu.value_or(std::max(engine::largest_inner_packet(*underlay), kMinMtu));
}

/// Now, which may be another one than at the start; nothing if somebody has taken the link away.
std::optional<std::uint32_t> mtu_of(int link) try {
  const auto found = netio::Rtnetlink().link(link);
  return found ? std::optional(found->mtu) : std::nullopt;
} catch (const std::system_error&) {
  return std::nullopt;
}

}  // namespace

Service::FuseThread::FuseThread(fs::FuseSession& session, netio::asio::io_context& io)
    : session_(session), thread_([&session, &io] {
        std::ignore = ::pthread_setname_np(::pthread_self(), "xfrmfs/f0");
        session.run();
        io.stop();  // the mount is gone, and with it the reason to be here
      }) {}

Service::FuseThread::~FuseThread() {
  session_.stop();
}

Service::Service(const MountOptions& options)
    : cpus_(netio::allowed_cpus()),
      lanes_(options.workers.value_or(netio::suggested_lanes(cpus_.size()))),
      pin_(options.pin),
      engine_(lanes_, clock_, engine::CryptoBackends::select(options.crypto, options.permissions)),
      signals_(io_, SIGTERM, SIGINT),
      housekeeping_(io_, engine_, [this] { nudge_workers(); }) {
  engine_.set_attention_sink(&housekeeping_);
  signals_.async_wait([this](const boost::system::error_code& error, int signal) {
    if (error) return;
    log_notice(fmt::format("ending: signal={}", signal));
    io_.stop();
  });
  open_devices(options);
  open_guard(options.guard);
  resolver_ = std::make_unique<netio::NextHopResolver>(
      io_, next_hops_,
      netio::NextHopResolver::Options{.underlay = options.underlay, .send = options.raw_send});
  const auto changed = [this] {
    housekeeping_.engine_changed();
    if (guard_) guard_->engine_changed();
  };
  addresses_ = std::make_unique<netio::AddressWatch>(
      io_, engine_,
      netio::AddressWatch::Options{.underlay = options.underlay, .tun = tun_->index()}, changed);
  const std::string socket = options.socket.empty() ? default_socket_path() : options.socket;
  control_ = std::make_unique<netio::ControlServer>(
      io_, engine_, socket, changed,
      [this, socket, send = options.raw_send] { return status_report(status(socket, send)); });
  session_ = std::make_unique<fs::FuseSession>(
      tree_, engine_.view(),
      fs::FuseSession::Options{.mountpoint = options.mountpoint,
                               .source = socket,
                               .fuse_options = options.fuse_options});
  summary_ = fmt::format("mounted={} tun={} offload={} workers={} udp-port={} socket={}",
                         session_->mountpoint(), tun_->name(), tun_->offloads().text(), lanes_,
                         udp_port_, socket);
  if (options.permissions.broken_ciphers) summary_ += " legacy=allowed";
  if (options.permissions.unauthenticated) summary_ += " unauthenticated=allowed";
}

void Service::open_devices(const MountOptions& options) {
  const std::uint32_t mtu = tun_mtu(options);
  auto udp = open_udp(options);
  for (unsigned lane = 0; lane < lanes_; ++lane) {
    netio::EspSocket::Options raw{.lane = lane, .lanes = lanes_, .underlay = options.underlay};
    auto esp = std::make_unique<netio::PacketWire>(raw, next_hops_);
    raw.protocol = engine::Protocol::kAh;
    auto ah = std::make_unique<netio::EspSocket>(raw);
    wires_.push_back(
        std::make_unique<netio::Wire>(std::move(esp), std::move(udp[lane]), std::move(ah)));
  }
  tun_ = std::make_unique<netio::TunInterface>(netio::TunInterface::Options{
      .name = options.tun, .queues = lanes_, .mtu = mtu, .offload = options.offload});
}

std::vector<std::unique_ptr<netio::UdpEncapSocket>> Service::open_udp(
    const MountOptions& options) try {
  std::vector<std::unique_ptr<netio::UdpEncapSocket>> sockets(lanes_);
  const std::uint16_t port = options.udp_port.value_or(kDefaultUdpPort);
  if (port == 0) return sockets;
  for (unsigned lane = 0; lane < lanes_; ++lane) {
    sockets[lane] = std::make_unique<netio::UdpEncapSocket>(netio::UdpEncapSocket::Options{
        .lane = lane, .lanes = lanes_, .underlay = options.underlay, .port = port});
  }
  udp_port_ = port;
  return sockets;
} catch (const std::system_error& error) {
  if (options.udp_port || error.code().value() != EADDRINUSE) throw;
  without_udp_ = fmt::format("no ESP in UDP arrives: {}", error.what());
  return std::vector<std::unique_ptr<netio::UdpEncapSocket>>(lanes_);
}

void Service::open_guard(bool wanted) try {
  if (!wanted) {
    without_guard_ =
        "--no-guard: packets in clear that the policies want protected are not stopped";
    return;
  }
  guard_ = std::make_unique<netio::CleartextGuard>(
      engine_.view(), engine_.add_counters(),
      netio::GuardTable::Options{
          .tun = tun_->name(), .tun_index = tun_->index(), .udp_port = udp_port_},
      [](const std::string& line) { log_warning(line); });
} catch (const std::system_error& error) {
  if (!netio::CleartextGuard::unavailable(error.code())) {
    throw std::system_error(error.code(),
                            "cleartext guard (--no-guard would do without): nf_tables");
  }
  without_guard_ =
      "no cleartext guard, the kernel has no nf_tables: packets in clear that the policies want "
      "protected are not stopped";
}

void Service::run(Readiness& readiness) {
  {
    const SignalsBlocked blocked;
    if (guard_) guard_->start();
    start_workers();  // before anybody can read, because each adds its counters
    fuse_thread_ = std::make_unique<FuseThread>(*session_, io_);
  }
  tun_->bring_up();
  if (!without_udp_.empty()) log_notice(without_udp_);
  if (!without_guard_.empty()) log_warning(without_guard_);
  if (!readiness.announce()) return;
  log_notice(summary_);
  housekeeping_.engine_changed();
  io_.run();
}

void Service::start_workers() {
  for (unsigned lane = 0; lane < lanes_; ++lane) {
    std::optional<netio::CpuPair> cpus;
    if (pin_) {
      cpus = netio::cpus_of_lane(lane, cpus_);
      summary_ += fmt::format(" cpus{}={},{}", lane, cpus->outbound, cpus->inbound);
    }
    workers_.push_back(std::make_unique<netio::Worker>(lane, tun_->queue(lane), *wires_[lane],
                                                       engine_.make_outbound(lane),
                                                       engine_.make_inbound(lane), cpus));
  }
}

Status Service::status(const std::string& socket, netio::RawSend raw_send) const {
  const engine::Snapshot& databases = engine_.current();
  Status out{.version = XFRMFS_VERSION,
             .pid = ::getpid(),
             .mountpoint = session_->mountpoint(),
             .socket = socket,
             .tun = tun_->name(),
             .mtu = mtu_of(tun_->index()),
             .offload = tun_->offloads().text(),
             .workers = lanes_,
             .cpus = {},
             .udp_port = udp_port_,
             .raw_send = raw_send,
             .frames = next_hops_.allowed(),
             .guard = guard_ == nullptr ? GuardState::kNone
                      : guard_->works() ? GuardState::kWorks
                                        : GuardState::kFails,
             .crypto = engine_.backends().preference(),
             .algorithms = engine_.backends().table(),
             .sas = databases.sad.size(),
             .policies = 0};
  for (const auto direction :
       {engine::Direction::kIn, engine::Direction::kOut, engine::Direction::kForward}) {
    out.policies += databases.spd.size(direction);
  }
  for (unsigned lane = 0; pin_ && lane < lanes_; ++lane) {
    out.cpus.push_back(netio::cpus_of_lane(lane, cpus_));
  }
  return out;
}

void Service::nudge_workers() {
  for (const auto& worker : workers_) worker->nudge();
}

}  // namespace xfrmfs
