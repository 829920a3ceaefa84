// SPDX-License-Identifier: Apache-2.0
#include "netio/waiter.h"

namespace xfrmfs::netio {

Waiter::Waiter(EventFd& doorbell, std::span<const int> first, std::span<const int> second)
    : doorbell_(doorbell) {
  polled_.push_back({.fd = doorbell.descriptor(), .events = POLLIN, .revents = 0});
  for (const int fd : first) polled_.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  states_[kFirst].end = polled_.size();
  for (const int fd : second) polled_.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  states_[kSecond].end = polled_.size();
}

Waiter::Ready Waiter::wait(std::size_t groups,
                           std::optional<std::chrono::milliseconds> most) noexcept {
  bool paused = false;
  for (std::size_t g = 0; g < groups; ++g) paused |= states_[g].paused;
  if (paused && (!most || *most > kPause)) most = kPause;
  const std::size_t count = groups == 0 ? 1 : states_[groups - 1].end;
  const int ready = ::poll(polled_.data(), count, most ? static_cast<int>(most->count()) : -1);
  Ready result;
  if (ready > 0) {
    result.rang = polled_[0].revents != 0;
    std::size_t i = 1;
    for (std::size_t g = 0; g < groups; ++g) {
      for (; i < states_[g].end; ++i) result.groups[g] |= polled_[i].revents != 0;
    }
  }
  if (result.rang) doorbell_.quiet();
  if (paused) {
    for (const Group group : {kFirst, kSecond}) set_paused(group, false);
  }
  return result;
}

void Waiter::served(Group group, bool brought_packets) noexcept {
  State& state = states_[group];
  state.in_vain = brought_packets ? 0 : state.in_vain + 1;
  if (state.in_vain >= 2) set_paused(group, true);
}

/// poll(2) passes over negative descriptors.
void Waiter::set_paused(Group group, bool paused) noexcept {
  State& state = states_[group];
  if (state.paused == paused) return;
  state.paused = paused;
  for (std::size_t i = group == kFirst ? 1 : states_[group - 1].end; i < state.end; ++i) {
    polled_[i].fd = ~polled_[i].fd;
    polled_[i].revents = 0;
  }
}

}  // namespace xfrmfs::netio
