// SPDX-License-Identifier: Apache-2.0
#include "netio/housekeeping.h"

#include <chrono>
#include <utility>

namespace xfrmfs::netio {
namespace {

/// Long enough for a nudged worker to finish its batch, short enough that keys of a deleted SA do
/// not stay.
constexpr auto kRetryInterval = std::chrono::milliseconds(50);

}  // namespace

Housekeeping::Housekeeping(asio::io_context& io, engine::Engine& engine,
                           std::function<void()> nudge)
    : engine_(engine),
      nudge_(std::move(nudge)),
      rung_(io, doorbell_.descriptor()),
      deadline_(io, [this] { advance(); }),
      retry_(io) {
  wait();
}

Housekeeping::~Housekeeping() {
  rung_.release();  // the descriptor is the doorbell's
}

void Housekeeping::wait() {
  rung_.async_wait(asio::posix::stream_descriptor::wait_read,
                   [this](const boost::system::error_code& error) {
                     if (error) return;  // cancelled: we are being destroyed
                     doorbell_.quiet();
                     advance();
                     wait();
                   });
}

void Housekeeping::advance() {
  const auto next = engine_.advance();
  if (next) {
    deadline_.set(*next);
  } else {
    deadline_.clear();
  }
  if (!retrying_) let_go();
}

void Housekeeping::let_go() {
  retrying_ = !engine_.reclaim();
  if (!retrying_) return;
  nudge_();
  retry_.expires_after(kRetryInterval);
  retry_.async_wait([this](const boost::system::error_code& error) {
    if (!error) let_go();
  });
}

}  // namespace xfrmfs::netio
