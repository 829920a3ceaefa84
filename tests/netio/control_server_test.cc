// SPDX-License-Identifier: Apache-2.0
#include "netio/control_server.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "netio/asio.h"
#include "netio/file_descriptor.h"
#include "netio/preload/protocol.h"
#include "tests/netio/xfrm_messages.h"
#include "tests/support/manual_clock.h"

namespace xfrmfs::testing {
namespace {

using netio::ControlServer;
using netio::FileDescriptor;
using netio::own_or_throw;
namespace protocol = netio::protocol;

constexpr int kPatienceMs = 10'000;

sockaddr_un address_at(const std::string& path) {
  sockaddr_un out{};
  out.sun_family = AF_UNIX;
  path.copy(out.sun_path, sizeof out.sun_path - 1);
  return out;
}

/// Sends bytes and, if it is not -1, a descriptor. 0 or an errno.
int send_with(int socket, ByteSpan bytes, int descriptor) {
  iovec part{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof(int));
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? errno : 0;
}

bool readable(int socket, int patience_ms = kPatienceMs) {
  pollfd wanted{.fd = socket, .events = POLLIN, .revents = 0};
  return ::poll(&wanted, 1, patience_ms) == 1;
}

ByteVector receive(int socket, std::size_t room = 256 * 1024) {
  ByteVector out(room);
  if (!readable(socket)) return {};
  const ssize_t size = ::recv(socket, out.data(), out.size(), MSG_TRUNC);
  out.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  return out;
}

/// A program with a "netlink socket", as the client adapter gives it to it.
class Client {
 public:
  explicit Client(const std::string& path) {
    const FileDescriptor meeting =
        own_or_throw(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "socket");
    const sockaddr_un address = address_at(path);
    if (::connect(meeting.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
        0) {
      status = errno;
      return;
    }
    protocol::Handover handover{};
    iovec part{.iov_base = &handover, .iov_len = sizeof handover};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (!readable(meeting.get()) ||
        ::recvmsg(meeting.get(), &message, MSG_CMSG_CLOEXEC) != sizeof handover) {
      status = EPIPE;
      return;
    }
    status = handover.status;
    const cmsghdr* rights = CMSG_FIRSTHDR(&message);
    if (rights == nullptr) return;
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    socket = FileDescriptor(fd);
  }

  int send(ByteSpan bytes) const { return send_with(socket.get(), bytes, -1); }
  std::vector<Answer> receive_answers() const { return answers_in(receive(socket.get())); }
  /// The one message that answers a request.
  Answer ask(ByteSpan request) const {
    if (send(request) != 0) return {};
    auto answers = receive_answers();
    return answers.size() == 1 ? answers[0] : Answer{};
  }
  /// The datagram that answers a control call; empty if there was none.
  ByteVector call_answer(protocol::Op op, std::uint32_t arg0 = 0, std::uint32_t arg1 = 0) const {
    std::array<int, 2> pair;
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) return {};
    const FileDescriptor mine(pair[0]);
    FileDescriptor theirs(pair[1]);
    const protocol::ControlBody body{static_cast<std::uint32_t>(op), arg0, arg1};
    send_with(socket.get(), message(protocol::kControlType, 0, bytes_of(body)), theirs.get());
    theirs = FileDescriptor();
    return receive(mine.get());
  }
  /// The errno of a control call that is answered without text; -1 if it was not.
  int call(protocol::Op op, std::uint32_t arg0 = 0, std::uint32_t arg1 = 0) const {
    const ByteVector answer = call_answer(op, arg0, arg1);
    return answer.size() == sizeof(protocol::ControlAnswer)
               ? load<protocol::ControlAnswer>(answer).error
               : -1;
  }
  int extended_acks() const { return call(protocol::Op::kOption, NETLINK_EXT_ACK, 1); }

  int status = 0;
  FileDescriptor socket;
};

class ControlServerTest : public ::testing::Test {
 protected:
  ControlServerTest() {
    std::string name = (std::filesystem::temp_directory_path() / "control_server_test.XXXXXX");
    if (::mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::generic_category());
    directory_ = name;
    path_ = name + "/run/nl.sock";
  }
  ~ControlServerTest() override {
    stop();
    std::filesystem::remove_all(directory_);
  }

  void start(std::function<std::string()> status = {}) {
    server_ = std::make_unique<ControlServer>(
        io_, engine_, path_, [this] { ++changes_; }, std::move(status));
    thread_ = std::jthread([this] { io_.run(); });
  }
  /// Destroys the server on its thread, lets conversations end, joins.
  void stop() {
    if (!thread_.joinable()) return;
    netio::asio::post(io_, [this] { server_.reset(); });
    thread_.join();
  }
  std::size_t sessions() {
    std::promise<std::size_t> seen;
    netio::asio::post(io_, [&] { seen.set_value(server_->sessions()); });
    return seen.get_future().get();
  }
  void wait_for_sessions(std::size_t wanted) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
    while (sessions() != wanted && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(sessions(), wanted);
  }

  std::atomic<std::size_t> status_size_ = 0;  // what the server thread looks at lives here
  std::string directory_;
  std::string path_;
  ManualClock clock_;
  engine::Engine engine_{1, clock_};
  std::atomic<int> changes_{0};
  netio::asio::io_context io_{1};
  std::unique_ptr<ControlServer> server_;
  std::jthread thread_;
};

TEST_F(ControlServerTest, ListensWhereOnlyItsUserCanGo) {
  start();
  struct stat seen{};
  ASSERT_EQ(::stat((directory_ + "/run").c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 07777, 0700u);
  ASSERT_EQ(::stat(path_.c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 07777, 0600u);
  stop();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ControlServerTest, ReplacesTheSocketOfADeadProcess) {
  ::mkdir((directory_ + "/run").c_str(), 0755);
  const FileDescriptor dead(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
  const sockaddr_un address = address_at(path_);
  ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  start();
  EXPECT_EQ(Client(path_).status, 0);
}

TEST_F(ControlServerTest, DoesNotReplaceALiveOneOrAFile) {
  const auto refused = [](const std::string& path, engine::Engine& engine) {
    netio::asio::io_context io(1);
    try {
      const ControlServer second(io, engine, path, {});
    } catch (const std::system_error& error) {
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
      return error.code().value();
    }
    return 0;
  };
  start();
  EXPECT_EQ(refused(path_, engine_), EADDRINUSE);
  EXPECT_EQ(Client(path_).status, 0);
  const std::string file = directory_ + "/file";
  std::ofstream(file) << "precious";
  EXPECT_EQ(refused(file, engine_), EADDRINUSE);
  EXPECT_TRUE(std::filesystem::exists(file));
  EXPECT_EQ(refused(directory_ + "/no/such/place", engine_), ENOENT);
  EXPECT_EQ(refused(directory_ + "/" + std::string(200, 'x'), engine_), ENAMETOOLONG);
}

TEST_F(ControlServerTest, NamesItsEndLikeAKernel) {
  start();
  const Client one(path_);
  const Client two(path_);
  std::array<protocol::Name, 2> names{};
  const std::array<int, 2> sockets{one.socket.get(), two.socket.get()};
  for (std::size_t i = 0; i < 2; ++i) {
    sockaddr_un peer{};
    socklen_t length = sizeof peer;
    ASSERT_EQ(::getpeername(sockets[i], reinterpret_cast<sockaddr*>(&peer), &length), 0);
    ASSERT_EQ(length, sizeof(protocol::Name));
    std::memcpy(&names[i], &peer, sizeof names[i]);
    EXPECT_EQ(names[i].family, AF_UNIX);
    EXPECT_EQ(names[i].nul, 0);
    EXPECT_EQ(names[i].tag, protocol::kEngineTag);
    EXPECT_EQ(names[i].port_id, 0u);
  }
  EXPECT_NE(names[0].groups_or_nonce, names[1].groups_or_nonce);
}

TEST_F(ControlServerTest, AnswersAfterPublishing) {
  start();
  const Client client(path_);
  ASSERT_EQ(client.call(protocol::Op::kBind, 1234), 0);
  const Answer answer = client.ask(add_sa());
  EXPECT_TRUE(answer.is_error());
  EXPECT_EQ(answer.error(), 0);
  EXPECT_EQ(answer.header.nlmsg_pid, 1234u);
  EXPECT_EQ(answer.header.nlmsg_seq, 7u);
  EXPECT_EQ(engine_.view().snapshot()->sad.size(), 1u);
  EXPECT_EQ(changes_, 1);
  EXPECT_EQ(client.ask(add_sa()).error(), EEXIST);
  EXPECT_EQ(changes_, 1);
}

/// What has piled up is published once, and answered message by message; also to a client that
/// says that it will not ask any more.
TEST_F(ControlServerTest, PublishesOnceWhatWasAskedInOneGo) {
  start();
  const Client client(path_);
  ASSERT_EQ(client.ask(add_sa(0xff)).error(), 0);
  const int before = changes_.load();
  constexpr std::uint32_t kAsked = 20;
  std::promise<void> busy;
  std::promise<void> go_on;
  netio::asio::post(io_, [&] {
    busy.set_value();
    go_on.get_future().wait();
  });
  busy.get_future().wait();
  for (std::uint32_t i = 0; i < kAsked; ++i) ASSERT_EQ(client.send(add_sa(0x100 + i)), 0);
  ASSERT_EQ(::shutdown(client.socket.get(), SHUT_WR), 0);
  go_on.set_value();
  for (std::uint32_t i = 0; i < kAsked; ++i) {
    const auto answers = client.receive_answers();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0].error(), 0);
  }
  EXPECT_EQ(changes_.load(), before + 1);
  EXPECT_EQ(engine_.view().snapshot()->sad.size(), kAsked + 1);
  wait_for_sessions(0);
}

TEST_F(ControlServerTest, GivesAPortIdToWhoNeverBinds) {
  start();
  const Client one(path_);
  const Client two(path_);
  const ByteVector request = message(XFRM_MSG_GETSADINFO, 0, zeros(4));
  EXPECT_EQ(one.ask(request).header.nlmsg_pid, static_cast<std::uint32_t>(::getpid()));
  const std::uint32_t other = two.ask(request).header.nlmsg_pid;
  EXPECT_NE(other, 0u);
  EXPECT_NE(other, static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(two.ask(request).header.nlmsg_pid, other);
}

TEST_F(ControlServerTest, BindsAPortIdToOneClient) {
  start();
  const Client one(path_);
  {
    const Client two(path_);
    EXPECT_EQ(one.call(protocol::Op::kBind, 5, 0xffffffff), 0);
    EXPECT_EQ(two.call(protocol::Op::kBind, 5), EADDRINUSE);
    EXPECT_EQ(two.call(protocol::Op::kBind, 6), 0);
    EXPECT_EQ(one.call(protocol::Op::kBind, 5, 0), 0);  // other groups
    EXPECT_EQ(one.call(protocol::Op::kBind, 7), EINVAL);
    EXPECT_EQ(one.call(protocol::Op::kBind, 0), EINVAL);
  }
  wait_for_sessions(1);
  EXPECT_EQ(Client(path_).call(protocol::Op::kBind, 6), 0) << "it is free again";
}

TEST_F(ControlServerTest, KnowsMembershipsAndOptions) {
  start();
  const Client client(path_);
  using protocol::Op;
  EXPECT_EQ(client.call(Op::kAddMembership, 1), 0);
  EXPECT_EQ(client.call(Op::kAddMembership, 32), 0);
  EXPECT_EQ(client.call(Op::kDropMembership, 32), 0);
  EXPECT_EQ(client.call(Op::kAddMembership, 0), EINVAL);
  EXPECT_EQ(client.call(Op::kAddMembership, 33), EINVAL);
  EXPECT_EQ(client.call(Op::kDropMembership, 33), EINVAL);
  for (const std::uint32_t option : {3u, 4u, 5u, 8u, 10u, 11u, 12u}) {
    EXPECT_EQ(client.call(Op::kOption, option, 1), 0) << option;
  }
  EXPECT_EQ(client.call(Op::kOption, 6, 1), ENOPROTOOPT);
  EXPECT_EQ(client.call(Op{99}, 0), EOPNOTSUPP);
}

TEST_F(ControlServerTest, TellsTheStatusInOneDatagram) {
  start([this] { return std::string(status_size_, 's'); });
  const Client client(path_);
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{5}, std::size_t{protocol::kLongestStatus},
        std::size_t{protocol::kLongestStatus} + 1}) {
    SCOPED_TRACE(bytes);
    status_size_ = bytes;
    const ByteVector answer = client.call_answer(protocol::Op::kStatus);
    const std::size_t told = std::min<std::size_t>(bytes, protocol::kLongestStatus);
    ASSERT_EQ(answer.size(), sizeof(protocol::ControlAnswer) + told);
    EXPECT_EQ(load<protocol::ControlAnswer>(answer).error, 0);
    EXPECT_EQ(std::count(answer.begin(), answer.end(), std::byte{'s'}),
              static_cast<std::ptrdiff_t>(told));
  }
}

TEST_F(ControlServerTest, MayHaveNoStatusToTell) {
  start();
  EXPECT_EQ(Client(path_).call(protocol::Op::kStatus), EOPNOTSUPP);
}

TEST_F(ControlServerTest, ExplainsOnlyToWhoAskedForIt) {
  start();
  const Client client(path_);
  const ByteVector wrong = message(XFRM_MSG_GETSADINFO, 0, {});
  const Answer plain = client.ask(wrong);
  EXPECT_EQ(plain.error(), EINVAL);
  EXPECT_EQ(plain.header.nlmsg_flags, 0);
  ASSERT_EQ(client.extended_acks(), 0);
  EXPECT_EQ(client.ask(wrong).text(), "Invalid header length");
  ASSERT_EQ(client.call(protocol::Op::kOption, NETLINK_CAP_ACK, 1), 0);
  EXPECT_EQ(client.ask(wrong).header.nlmsg_flags, NLM_F_CAPPED | NLM_F_ACK_TLVS);
  ASSERT_EQ(client.call(protocol::Op::kOption, NETLINK_EXT_ACK, 0), 0);
  EXPECT_EQ(client.ask(wrong).header.nlmsg_flags, NLM_F_CAPPED);
}

TEST_F(ControlServerTest, AControlCallWithoutADescriptorIsANetlinkMessage) {
  start();
  const Client client(path_);
  const protocol::ControlBody bind{static_cast<std::uint32_t>(protocol::Op::kBind), 77, 0};
  const Answer answer = client.ask(message(protocol::kControlType, NLM_F_ACK, bytes_of(bind)));
  EXPECT_EQ(answer.error(), 0);
  EXPECT_NE(answer.header.nlmsg_pid, 77u);
}

TEST_F(ControlServerTest, TakesNoHarmFromDescriptorsAndGarbage) {
  start();
  const Client client(path_);
  ASSERT_EQ(send_with(client.socket.get(), add_sa(1, 0), client.socket.get()), 0);
  ASSERT_EQ(client.send({}), 0);  // an empty datagram is not the end
  ASSERT_EQ(client.send(zeros(3)), 0);
  ASSERT_EQ(client.send(zeros(500)), 0);
  ASSERT_EQ(client.send(ByteVector(40000, std::byte{0xff})), 0);
  EXPECT_EQ(client.ask(add_sa(1)).error(), EEXIST);
}

TEST_F(ControlServerTest, RefusesWhatIsTooLong) {
  start();
  const Client client(path_);
  ByteVector longest = message(XFRM_MSG_GETSADINFO, 0, zeros(64 * 1024 - 16));
  EXPECT_EQ(client.ask(longest).type(), XFRM_MSG_NEWSADINFO);
  longest = message(XFRM_MSG_GETSADINFO, 0, zeros(64 * 1024 - 15));
  const Answer answer = client.ask(longest);
  EXPECT_EQ(answer.error(), EMSGSIZE);
  EXPECT_EQ(answer.header.nlmsg_seq, 7u);
}

TEST_F(ControlServerTest, ListsToASmallSlowReaderWhileOthersAreAnswered) {
  start();
  const Client writer(path_);
  constexpr std::uint32_t kCount = 6'000;  // more than a queue holds
  for (std::uint32_t spi = 1; spi <= kCount; ++spi) ASSERT_EQ(writer.send(add_sa(spi, 0)), 0);
  ASSERT_EQ(writer.ask(message(XFRM_MSG_GETSADINFO, 0, zeros(4))).attribute(4, XFRMA_SAD_CNT),
            bytes_of(kCount));

  // Several listings that nobody reads fill their queues.
  const Client slow(path_);
  const Client leaver(path_);
  for (const Client* client : {&slow, &leaver}) {
    ASSERT_EQ(client->send(message(XFRM_MSG_GETSA, NLM_F_DUMP, {}, {}, 1)), 0);
    ASSERT_TRUE(readable(client->socket.get()));
  }
  // A second one is refused, behind the parts that are waiting already.
  ASSERT_EQ(slow.send(message(XFRM_MSG_GETSA, NLM_F_DUMP, {}, {}, 2)), 0);
  EXPECT_EQ(writer.ask(add_sa(0x10000)).error(), 0);

  std::uint32_t seen = 0;
  bool refused = false;
  for (bool done = false; !done;) {
    const ByteVector part = receive(slow.socket.get(), 4096);
    ASSERT_FALSE(part.empty());
    ASSERT_LE(part.size(), 4096u);
    for (const Answer& answer : answers_in(part)) {
      if (answer.type() == XFRM_MSG_NEWSA) ++seen;
      if (answer.is_error()) {
        EXPECT_EQ(answer.header.nlmsg_seq, 2u);
        EXPECT_EQ(answer.error(), EBUSY);
        refused = true;
      }
      if (answer.type() == NLMSG_DONE) done = true;
    }
  }
  EXPECT_EQ(seen, kCount);
  EXPECT_TRUE(refused);
}

TEST_F(ControlServerTest, ForgetsAClientThatLeavesInTheMiddleOfAListing) {
  start();
  {
    const Client client(path_);
    for (std::uint32_t spi = 1; spi <= 2000; ++spi) ASSERT_EQ(client.send(add_sa(spi, 0)), 0);
    ASSERT_EQ(client.send(message(XFRM_MSG_GETSA, NLM_F_DUMP, {})), 0);
    ASSERT_TRUE(readable(client.socket.get()));
    wait_for_sessions(1);
  }
  wait_for_sessions(0);
}

TEST_F(ControlServerTest, DoesNotReadFromWhoDoesNotRead) {
  start();
  const Client client(path_);
  const int small = 1;  // raised to the smallest possible
  ::setsockopt(client.socket.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  ASSERT_EQ(::fcntl(client.socket.get(), F_SETFL, O_NONBLOCK), 0);
  // Answers fill the way back, then requests fill the way there: a full stop, not a full memory.
  const ByteVector question = message(XFRM_MSG_GETSPDINFO, 0, zeros(4));
  ByteVector questions;
  while (questions.size() < 2000)
    questions.insert(questions.end(), question.begin(), question.end());
  std::size_t sent = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  for (int stuck = 0; stuck < 50 && std::chrono::steady_clock::now() < deadline;) {
    if (client.send(questions) == 0) {
      ++sent;
      stuck = 0;
    } else {
      ++stuck;
      pollfd writable{.fd = client.socket.get(), .events = POLLOUT, .revents = 0};
      ::poll(&writable, 1, 20);
    }
  }
  EXPECT_NE(client.send(questions), 0);
  EXPECT_EQ(Client(path_).ask(question).type(), XFRM_MSG_NEWSPDINFO) << "others do not notice";
  std::size_t answers = 0;
  while (readable(client.socket.get(), 200)) {
    answers += answers_in(receive(client.socket.get())).size();
  }
  EXPECT_EQ(answers, sent * (questions.size() / question.size())) << "and nothing is lost";
}

TEST_F(ControlServerTest, HasRoomForABoundedNumberOfClients) {
  start();
  std::vector<Client> clients;
  while (clients.size() < ControlServer::kMostSessions) {
    clients.emplace_back(path_);
    if (clients.back().status == EMFILE || clients.back().status == EPIPE) {
      GTEST_SKIP() << "too few descriptors for " << ControlServer::kMostSessions << " clients";
    }
    ASSERT_EQ(clients.back().status, 0) << clients.size();
  }
  EXPECT_EQ(Client(path_).status, ENFILE);
  clients.pop_back();
  wait_for_sessions(ControlServer::kMostSessions - 1);
  EXPECT_EQ(Client(path_).status, 0);
}

TEST_F(ControlServerTest, EndsConversationsWhenItIsDestroyed) {
  start();
  const Client idle(path_);
  const Client busy(path_);
  for (std::uint32_t spi = 1; spi <= 2000; ++spi) ASSERT_EQ(busy.send(add_sa(spi, 0)), 0);
  ASSERT_EQ(busy.send(message(XFRM_MSG_GETSA, NLM_F_DUMP, {})), 0);
  ASSERT_TRUE(readable(busy.socket.get()));
  stop();
  std::byte byte;
  EXPECT_EQ(::recv(idle.socket.get(), &byte, 1, 0), 0);
}

TEST_F(ControlServerTest, AnswersEpermToWhoIsNotPrivileged) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  start([] { return std::string("status"); });
  const Client client(path_);  // opened by root, used by nobody
  ASSERT_EQ(client.ask(add_sa()).error(), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setresuid(65534, 65534, 65534) != 0) ::_exit(100);
    if (client.ask(message(XFRM_MSG_FLUSHSA, NLM_F_ACK, zeros(1))).error() != EPERM) ::_exit(1);
    if (client.ask(message(XFRM_MSG_GETSA, NLM_F_DUMP, {})).error() != EPERM) ::_exit(2);
    if (client.call(protocol::Op::kBind, 9, 1) != EPERM) ::_exit(3);
    if (client.call(protocol::Op::kAddMembership, 1) != EPERM) ::_exit(4);
    if (Client(path_).status != EACCES) ::_exit(5);
    if (client.call(protocol::Op::kStatus) != EPERM) ::_exit(6);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(engine_.view().snapshot()->sad.size(), 1u);
}

TEST_F(ControlServerTest, AnswersEpermToWhoeverWasHandedOneByAnother) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  start();
  ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
  ASSERT_EQ(::chmod((directory_ + "/run").c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path_.c_str(), 0666), 0);
  // Somebody else opens it, root uses it: as in a kernel, both have to be privileged.
  std::array<int, 2> way;
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, way.data()), 0);
  const FileDescriptor here(way[0]);
  const FileDescriptor there(way[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setresuid(65534, 65534, 65534) != 0) ::_exit(100);
    const Client client(path_);
    if (client.status != 0) ::_exit(1);
    ::_exit(send_with(there.get(), zeros(1), client.socket.get()));
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(WEXITSTATUS(status), 0);
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  std::byte byte;
  iovec part{.iov_base = &byte, .iov_len = 1};
  msghdr message_header{};
  message_header.msg_iov = &part;
  message_header.msg_iovlen = 1;
  message_header.msg_control = control.data();
  message_header.msg_controllen = control.size();
  ASSERT_EQ(::recvmsg(here.get(), &message_header, 0), 1);
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message_header)), sizeof fd);
  const FileDescriptor session(fd);
  ASSERT_EQ(send_with(session.get(), add_sa(), -1), 0);
  EXPECT_EQ(answers_in(receive(session.get())).at(0).error(), EPERM);
}

}  // namespace
}  // namespace xfrmfs::testing
