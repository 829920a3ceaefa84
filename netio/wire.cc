// SPDX-License-Identifier: Apache-2.0
#include "netio/wire.h"

#include <utility>

namespace xfrmfs::netio {

Wire::Wire(std::unique_ptr<WirePort> esp, std::unique_ptr<UdpEncapSocket> udp,
           std::unique_ptr<WirePort> ah)
    : esp_(std::move(esp)), udp_(std::move(udp)), ah_(std::move(ah)) {
  for (const WirePort* port : {esp_.get(), static_cast<WirePort*>(udp_.get()), ah_.get()}) {
    if (port == nullptr) continue;
    polled_.insert(polled_.end(), port->descriptors().begin(), port->descriptors().end());
  }
}

void Wire::receive(engine::PacketPool& pool, engine::Batch<engine::SealedPacket>& batch) {
  const auto from = [&](WirePort* port) {
    if (port != nullptr) port->receive(pool, batch);
  };
  turns_.receive(
      batch, [&] { from(esp_.get()); },
      [&] { others_turns_.receive(batch, [&] { from(udp_.get()); }, [&] { from(ah_.get()); }); });
}

void Wire::transmit(engine::SealedPacket train) noexcept {
  if (kept_ == kMostKept) unsent_ = flush();
  ++kept_;
  WirePort& port = udp_ != nullptr && udp_->takes(train) ? static_cast<WirePort&>(*udp_) : *esp_;
  port.transmit(std::move(train));
}

std::size_t Wire::flush() noexcept {
  kept_ = 0;
  return std::exchange(unsent_, 0) + esp_->flush() + (udp_ != nullptr ? udp_->flush() : 0);
}

}  // namespace xfrmfs::netio
