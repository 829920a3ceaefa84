// SPDX-License-Identifier: Apache-2.0
#include "netio/wire.h"

#include <utility>

namespace xfrmfs::netio {

Wire::Wire(std::unique_ptr<WirePort> esp, std::unique_ptr<UdpEncapSocket> udp)
    : esp_(std::move(esp)), udp_(std::move(udp)) {
  polled_.assign(esp_->descriptors().begin(), esp_->descriptors().end());
  if (udp_ == nullptr) return;
  polled_.insert(polled_.end(), udp_->descriptors().begin(), udp_->descriptors().end());
}

void Wire::receive(engine::PacketPool& pool, engine::Batch<engine::SealedPacket>& batch) {
  if (udp_ == nullptr) return esp_->receive(pool, batch);
  turns_.receive(batch, [&] { esp_->receive(pool, batch); }, [&] { udp_->receive(pool, batch); });
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
