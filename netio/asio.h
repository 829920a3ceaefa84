// SPDX-License-Identifier: Apache-2.0
// The one place that includes Boost.Asio, and the names we use of it.
//
// A netlink-like conversation is AF_UNIX SOCK_SEQPACKET, which our Boost only knows in its generic
// form.

#pragma once

#include <utility>  // Asio's coroutine headers forget it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/generic/seq_packet_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace xfrmfs::netio {

namespace asio = boost::asio;

using SeqPacketSocket = asio::generic::seq_packet_protocol::socket;

}  // namespace xfrmfs::netio
