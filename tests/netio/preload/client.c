/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that believes it talks NETLINK_XFRM to the kernel.
 *
 * Each scenario uses the calls of section "a socket's life" of netlink(7) and checks what it sees;
 * the name of the scenario is the argument. It is built for several C libraries, so it is plain C,
 * and is run with the adapter preloaded. Exit status 0: all was as with a netlink socket.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/netio/preload/requests.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

#define EXPECT(condition)                                                                \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      fprintf(stderr, "%s:%d: not so: %s (errno: %s)\n", __FILE__, __LINE__, #condition, \
              strerror(errno));                                                          \
      exit(1);                                                                           \
    }                                                                                    \
  } while (0)

#define EXPECT_ERROR(error, call) \
  do {                            \
    errno = 0;                    \
    EXPECT((call) == -1);         \
    EXPECT(errno == (error));     \
  } while (0)

static const char* self;

static int open_xfrm(int flags) {
  const int fd = socket(AF_NETLINK, SOCK_RAW | flags, NETLINK_XFRM);
  EXPECT(fd >= 0);
  return fd;
}

static int bind_to(int fd, uint32_t port_id, uint32_t groups) {
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_pid = port_id, .nl_groups = groups};
  return bind(fd, (struct sockaddr*)&address, sizeof(address));
}

static struct sockaddr_nl name_of(int fd) {
  struct sockaddr_nl address;
  memset(&address, 0xee, sizeof(address));
  socklen_t length = sizeof(address);
  EXPECT(getsockname(fd, (struct sockaddr*)&address, &length) == 0);
  EXPECT(length == sizeof(address));
  EXPECT(address.nl_family == AF_NETLINK);
  EXPECT(address.nl_pad == 0);
  return address;
}

static void request(int fd, uint16_t type, uint32_t sequence) {
  struct nlmsghdr header = {.nlmsg_len = sizeof(header),
                            .nlmsg_type = type,
                            .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
                            .nlmsg_seq = sequence};
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  EXPECT(sendto(fd, &header, sizeof(header), 0, (struct sockaddr*)&kernel, sizeof(kernel)) ==
         sizeof(header));
}

struct answer {
  struct nlmsghdr header;
  struct nlmsgerr body;
};

static void expect_acknowledgement(const struct answer* answer, ssize_t size, uint32_t sequence) {
  EXPECT(size == sizeof(*answer));
  EXPECT(answer->header.nlmsg_type == NLMSG_ERROR);
  EXPECT(answer->header.nlmsg_seq == sequence);
}

static void expect_from_kernel(const struct sockaddr_nl* source, socklen_t length) {
  EXPECT(length == sizeof(*source));
  EXPECT(source->nl_family == AF_NETLINK);
  EXPECT(source->nl_pid == 0);
}

/* The size is no constant, so that a fortified build calls the checking functions. */
static volatile size_t room = sizeof(struct answer);

static ssize_t receive_from(int fd, struct answer* answer, int flags) {
  struct answer local;
  struct sockaddr_nl source;
  memset(&source, 0xee, sizeof(source));
  socklen_t length = sizeof(source);
  const ssize_t size = recvfrom(fd, &local, room, flags, (struct sockaddr*)&source, &length);
  if (size > 0) expect_from_kernel(&source, length);
  if (size < 0) EXPECT(length == sizeof(source));
  *answer = local;
  return size;
}

static ssize_t receive_plain(int fd, struct answer* answer, int flags) {
  struct answer local;
  const ssize_t size = recv(fd, &local, room, flags);
  *answer = local;
  return size;
}

/* In two parts that divide the header, and with room for control messages. */
static ssize_t receive_message(int fd, struct answer* answer, int flags) {
  struct sockaddr_nl source;
  char control[64];
  struct iovec parts[] = {{.iov_base = answer, .iov_len = 5},
                          {.iov_base = (char*)answer + 5, .iov_len = sizeof(*answer) - 5}};
  struct msghdr message;
  memset(&message, 0xee, sizeof(message)); /* padding too: it may have any value */
  message.msg_name = &source;
  message.msg_namelen = sizeof(source);
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t size = recvmsg(fd, &message, flags);
  if (size > 0) expect_from_kernel(&source, message.msg_namelen);
  if (size < 0) EXPECT(message.msg_namelen == sizeof(source));
  if (size < 0) EXPECT(message.msg_controllen == sizeof(control));
  return size;
}

static ssize_t receive_one_of_many(int fd, struct answer* answer, int flags) {
  struct iovec part = {.iov_base = answer, .iov_len = sizeof(*answer)};
  struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
  const int count = recvmmsg(fd, &message, 1, flags, NULL);
  EXPECT(count == 1 || count == -1);
  return count == 1 ? (ssize_t)message.msg_len : -1;
}

typedef ssize_t (*receive_function)(int fd, struct answer* answer, int flags);
static const receive_function receive_functions[] = {receive_from, receive_plain, receive_message,
                                                     receive_one_of_many};
enum { RECEIVE_FUNCTIONS = sizeof(receive_functions) / sizeof(receive_functions[0]) };

static void exchange(int fd, uint32_t sequence) {
  struct answer answer;
  request(fd, NLMSG_NOOP, sequence);
  expect_acknowledgement(&answer, receive_from(fd, &answer, 0), sequence);
}

/* --- Scenarios. */

static void kind(void) {
  const int lowest = dup(0);
  close(lowest);
  errno = ENOTTY;
  const int fd = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_XFRM);
  EXPECT(fd == lowest);
  EXPECT(errno == ENOTTY);
  EXPECT(fcntl(fd, F_GETFD) == 0);
  EXPECT((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);

  const int second = open_xfrm(SOCK_CLOEXEC | SOCK_NONBLOCK);
  EXPECT(fcntl(second, F_GETFD) == FD_CLOEXEC);
  EXPECT((fcntl(second, F_GETFL) & O_NONBLOCK) != 0);
  struct answer answer;
  EXPECT_ERROR(EAGAIN, receive_from(second, &answer, 0));

  int value = -1;
  socklen_t length = sizeof(value);
  EXPECT(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &length) == 0 && value == AF_NETLINK);
  EXPECT(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &length) == 0 && value == NETLINK_XFRM);
  EXPECT(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length) == 0 && value == SOCK_RAW);
  EXPECT(length == sizeof(value));
  EXPECT_ERROR(ESOCKTNOSUPPORT, socket(AF_NETLINK, SOCK_STREAM, NETLINK_XFRM));
  value = 1 << 20;
  EXPECT(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof(value)) == 0);
}

static void around_socket(void) {
  const int fd = (int)syscall(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_XFRM);
  EXPECT(fd >= 0);
  exchange(fd, 1);
  EXPECT(syscall(SYS_getpid) == getpid());
  EXPECT_ERROR(EBADF, (int)syscall(SYS_close, -1));
  const int pages = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
  EXPECT(pages >= 0);
}

static void names(void) {
  const int fd = open_xfrm(0);
  EXPECT(name_of(fd).nl_pid == 0);
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  EXPECT_ERROR(EINVAL, bind(fd, (struct sockaddr*)&address, sizeof(address) - 1));
  EXPECT(bind_to(fd, 0, 0xffffffff) == 0);
  EXPECT(name_of(fd).nl_pid == (uint32_t)getpid());
  EXPECT(name_of(fd).nl_groups == 0xffffffff);

  struct sockaddr_nl peer;
  socklen_t length = sizeof(peer);
  EXPECT(getpeername(fd, (struct sockaddr*)&peer, &length) == 0);
  expect_from_kernel(&peer, length);

  /* A buffer that is too small gets what fits and learns the true length. */
  char bytes[4] = {0, 0, 0x55, 0x55};
  length = 2;
  EXPECT(getsockname(fd, (struct sockaddr*)bytes, &length) == 0);
  EXPECT(length == sizeof(struct sockaddr_nl));
  EXPECT(bytes[0] == AF_NETLINK && bytes[2] == 0x55);

  EXPECT(connect(fd, (struct sockaddr*)&address, sizeof(address)) == 0);
  address.nl_pid = 4711;
  EXPECT_ERROR(ECONNREFUSED, connect(fd, (struct sockaddr*)&address, sizeof(address)));
  exchange(fd, 2);
}

static void port_ids(void) {
  const int first = open_xfrm(0);
  const int second = open_xfrm(0);
  const int third = open_xfrm(0);
  const uint32_t self_id = (uint32_t)getpid();
  EXPECT(bind_to(first, 0, 0) == 0);
  EXPECT(bind_to(second, 0, 0xc3) == 0); /* the process id is taken */
  EXPECT(name_of(second).nl_pid > 0x7fffffff);
  EXPECT_ERROR(EADDRINUSE, bind_to(third, self_id, 3));
  EXPECT(bind_to(third, self_id + 0x01000000, 3) == 0);
  EXPECT(name_of(third).nl_pid == self_id + 0x01000000);
  EXPECT(bind_to(third, self_id + 0x01000000, 7) == 0); /* other groups */
  EXPECT_ERROR(EINVAL, bind_to(third, self_id + 0x02000000, 7));
  EXPECT_ERROR(EINVAL, bind_to(third, 0, 7));
  exchange(first, 1);
  exchange(second, 2);
  exchange(third, 3);
}

static void unbound(void) {
  const int fd = open_xfrm(0);
  exchange(fd, 3);
  EXPECT(name_of(fd).nl_pid == 0);
}

static void sending(void) {
  const int fd = open_xfrm(0);
  struct nlmsghdr header = {.nlmsg_len = sizeof(header),
                            .nlmsg_type = NLMSG_NOOP,
                            .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
                            .nlmsg_seq = 9};
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  struct iovec part = {.iov_base = &header, .iov_len = sizeof(header)};
  struct msghdr message = {
      .msg_name = &kernel, .msg_namelen = sizeof(kernel), .msg_iov = &part, .msg_iovlen = 1};
  struct mmsghdr messages = {.msg_hdr = message};
  EXPECT(write(fd, &header, sizeof(header)) == sizeof(header));
  EXPECT(send(fd, &header, sizeof(header), 0) == sizeof(header));
  EXPECT(sendmsg(fd, &message, 0) == sizeof(header));
  EXPECT(sendmmsg(fd, &messages, 1, 0) == 1);
  for (int i = 0; i < RECEIVE_FUNCTIONS; ++i) {
    struct answer answer;
    expect_acknowledgement(&answer, receive_functions[i](fd, &answer, 0), 9);
  }
}

static void peeking(void) {
  const int fd = open_xfrm(0);
  struct answer answer;
  request(fd, NLMSG_NOOP, 4);
  struct iovec nothing = {.iov_base = NULL, .iov_len = 0};
  struct msghdr message = {.msg_iov = &nothing, .msg_iovlen = 1};
  EXPECT(recvmsg(fd, &message, MSG_PEEK | MSG_TRUNC) == sizeof(answer));
  EXPECT(recvmsg(fd, &message, MSG_PEEK) == 0); /* no bytes asked for: not an end */
  expect_acknowledgement(&answer, receive_from(fd, &answer, MSG_PEEK), 4);
  expect_acknowledgement(&answer, receive_from(fd, &answer, 0), 4);
  char byte;
  request(fd, NLMSG_NOOP, 5);
  EXPECT(recv(fd, &byte, 1, MSG_TRUNC) == sizeof(answer));

  /* One part only: nobody looks at what lies behind it. */
  struct iovec parts[] = {{.iov_base = &byte, .iov_len = 1}, {.iov_base = (void*)1, .iov_len = 99}};
  memset(&message, 0xee, sizeof(message));
  message.msg_name = NULL;
  message.msg_namelen = 0;
  message.msg_iov = parts;
  message.msg_iovlen = 1;
  message.msg_control = NULL;
  message.msg_controllen = 0;
  request(fd, NLMSG_NOOP, 6);
  EXPECT(recvmsg(fd, &message, MSG_TRUNC) == sizeof(answer));
}

static void many(void) {
  const int fd = open_xfrm(0);
  struct answer answers[4];
  struct sockaddr_nl sources[4];
  struct iovec parts[4];
  struct mmsghdr messages[4];
  memset(messages, 0, sizeof(messages));
  for (int i = 0; i < 4; ++i) {
    parts[i] = (struct iovec){.iov_base = &answers[i], .iov_len = sizeof(answers[i])};
    messages[i].msg_hdr.msg_name = &sources[i];
    messages[i].msg_hdr.msg_namelen = sizeof(sources[i]);
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  request(fd, REQUEST_THREE, 6);
  int count = 0;
  while (count < 3) {
    const int more = recvmmsg(fd, messages + count, (unsigned)(4 - count), MSG_WAITFORONE, NULL);
    EXPECT(more > 0);
    count += more;
  }
  EXPECT(count == 3);
  for (int i = 0; i < 3; ++i) {
    expect_acknowledgement(&answers[i], messages[i].msg_len, 6);
    expect_from_kernel(&sources[i], messages[i].msg_hdr.msg_namelen);
  }
  EXPECT(recvmmsg(fd, messages, 0, 0, NULL) == 0);

  /* What ends a series is told after it. */
  request(fd, REQUEST_LATE_OVERRUN, 7);
  exchange(fd, 7); /* the acknowledgement of the first; now its overrun and another wait */
  EXPECT_ERROR(ENOBUFS, recvmmsg(fd, messages, 2, 0, NULL));
  EXPECT(recvmmsg(fd, messages, 1, 0, NULL) == 1);
}

static void overrun(void) {
  const int fd = open_xfrm(0);
  for (int i = 0; i < RECEIVE_FUNCTIONS; ++i) {
    struct answer answer;
    request(fd, REQUEST_OVERRUN, 8);
    EXPECT_ERROR(ENOBUFS, receive_functions[i](fd, &answer, 0));
    expect_acknowledgement(&answer, receive_functions[i](fd, &answer, 0), 8);
    request(fd, REQUEST_OVERRUN, 9);
    EXPECT_ERROR(ENOBUFS, receive_functions[i](fd, &answer, MSG_PEEK));
    expect_acknowledgement(&answer, receive_functions[i](fd, &answer, 0), 9);
  }
}

static void expect_parked(int fd, uint32_t port_id) {
  struct pollfd polled = {.fd = fd, .events = POLLIN};
  EXPECT(poll(&polled, 1, 0) == 0);
  char byte = 0;
  EXPECT_ERROR(EPIPE, send(fd, &byte, 1, 0)); /* and no SIGPIPE */
  EXPECT(name_of(fd).nl_pid == port_id);
  EXPECT_ERROR(EAGAIN, recv(fd, &byte, 1, MSG_DONTWAIT));
  const int group = 1;
  EXPECT_ERROR(ECONNRESET,
               setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)));
  EXPECT_ERROR(ECONNRESET, bind_to(fd, port_id, 1));
}

static void end(void) {
  for (int i = 0; i < RECEIVE_FUNCTIONS; ++i) {
    const int fd = open_xfrm(SOCK_CLOEXEC);
    struct answer answer;
    EXPECT(bind_to(fd, 0, 1) == 0);
    const uint32_t port_id = name_of(fd).nl_pid;
    request(fd, REQUEST_END, 1);
    EXPECT_ERROR(ECONNRESET, receive_functions[i](fd, &answer, 0));
    expect_parked(fd, port_id);
    EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    EXPECT((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
    close(fd);
  }
  const int fd = open_xfrm(SOCK_NONBLOCK);
  request(fd, REQUEST_LATE_END, 2);
  struct pollfd polled = {.fd = fd, .events = POLLRDHUP};
  EXPECT(poll(&polled, 1, 10000) == 1);
  struct answer answer;
  expect_acknowledgement(&answer, receive_from(fd, &answer, 0), 2);
  EXPECT_ERROR(ECONNRESET, receive_from(fd, &answer, 0));
  EXPECT_ERROR(EAGAIN, receive_from(fd, &answer, 0));
  EXPECT(fcntl(fd, F_GETFD) == 0);
  EXPECT((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
}

/* After fork, both see the end, and each keeps what it has. */
static void end_shared(void) {
  const int fd = open_xfrm(0);
  EXPECT(bind_to(fd, 0, 0) == 0);
  const uint32_t port_id = name_of(fd).nl_pid;
  request(fd, REQUEST_END, 1);
  struct pollfd polled = {.fd = fd, .events = POLLRDHUP};
  EXPECT(poll(&polled, 1, 10000) == 1);
  const pid_t child = fork();
  struct answer answer;
  EXPECT_ERROR(ECONNRESET, receive_from(fd, &answer, 0));
  EXPECT(name_of(fd).nl_pid == port_id);
  if (child == 0) exit(0);
  int status = -1;
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
  expect_parked(fd, port_id);
}

static void options(void) {
  const int fd = open_xfrm(0);
  const int group = 5;
  EXPECT(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) == 0);
  EXPECT(setsockopt(fd, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &group, sizeof(group)) == 0);
  const int one = 1;
  EXPECT(setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one)) == 0);
  EXPECT(setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, 0) == 0); /* as 0 */
  const int no_group = 99;
  EXPECT_ERROR(EINVAL,
               setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &no_group, sizeof(no_group)));
  EXPECT_ERROR(ENOPROTOOPT, setsockopt(fd, SOL_NETLINK, 77, &one, sizeof(one)));
  int value = 0;
  socklen_t length = sizeof(value);
  EXPECT_ERROR(ENOPROTOOPT, getsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &value, &length));
  const int nonblocking = open_xfrm(SOCK_NONBLOCK);
  EXPECT(setsockopt(nonblocking, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) == 0);
}

static int sleeps(pid_t process) {
  char path[64];
  char text[256];
  snprintf(path, sizeof(path), "/proc/%d/stat", (int)process);
  const int fd = open(path, O_RDONLY);
  const ssize_t size = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (size <= 0) return 0;
  text[size] = '\0';
  return strstr(text, ") S") != NULL;
}

/* A control call waits for room, even on a descriptor that does not block. */
static void busy(void) {
  const int fd = open_xfrm(SOCK_NONBLOCK);
  const int other = open_xfrm(0);
  request(fd, REQUEST_PAUSE, 1);
  const struct nlmsghdr header = {.nlmsg_len = sizeof(header), .nlmsg_type = REQUEST_RESUME};
  /* Nothing that is answered: nobody reads. */
  while (send(fd, &header, sizeof(header), 0) == sizeof(header)) {
  }
  EXPECT(errno == EAGAIN);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) {
    while (getppid() == parent && !sleeps(parent)) {
    }
    request(other, REQUEST_RESUME, 1);
    exit(0);
  }
  const int group = 5;
  EXPECT(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) == 0);
  EXPECT(waitpid(child, NULL, 0) == child);
}

static void pass_on(int fd, int over) {
  char byte = 0;
  struct iovec part = {.iov_base = &byte, .iov_len = 1};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  memset(&control, 0, sizeof(control));
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof(control)};
  if (fd >= 0) {
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    EXPECT(sendmsg(over, &message, 0) == 1);
    return;
  }
  EXPECT(recvmsg(over, &message, 0) == 1);
  EXPECT(control.header.cmsg_type == SCM_RIGHTS);
  memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
  exchange(fd, 12);
  EXPECT(name_of(fd).nl_pid == (uint32_t)getppid());
}

static void life(void) {
  const int fd = open_xfrm(SOCK_CLOEXEC);
  EXPECT(bind_to(fd, 0, 0) == 0);
  const uint32_t port_id = name_of(fd).nl_pid;
  const int copy = dup(fd);
  exchange(copy, 10);
  EXPECT(name_of(copy).nl_pid == port_id);

  int pair[2];
  EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  const pid_t child = fork();
  if (child == 0) {
    exchange(fd, 11);
    EXPECT(name_of(fd).nl_pid == port_id);
    close(fd);
    close(copy);
    pass_on(-1, pair[1]);
    exit(0);
  }
  int status = -1;
  pass_on(fd, pair[0]);
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
  exchange(fd, 13);

  /* `copy` lives on in another program, `fd` does not. */
  char numbers[3][16];
  snprintf(numbers[0], sizeof(numbers[0]), "%d", copy);
  snprintf(numbers[1], sizeof(numbers[1]), "%d", fd);
  snprintf(numbers[2], sizeof(numbers[2]), "%u", port_id);
  execl(self, self, "after_exec", numbers[0], numbers[1], numbers[2], NULL);
  EXPECT(!"exec");
}

static void after_exec(char** arguments) {
  const int copy = atoi(arguments[0]);
  EXPECT_ERROR(EBADF, fcntl(atoi(arguments[1]), F_GETFD));
  EXPECT(name_of(copy).nl_pid == strtoul(arguments[2], NULL, 10));
  exchange(copy, 14);
  for (int fd = 3; fd < 256; ++fd) close(fd);
  const int fresh = open_xfrm(0);
  EXPECT(fresh == 3);
  exchange(fresh, 15);
}

enum { ROUNDS = 200 };

static void* send_requests(void* argument) {
  for (uint32_t i = 0; i < ROUNDS; ++i) request(*(int*)argument, NLMSG_NOOP, i);
  return NULL;
}

static void* open_and_bind(void* argument) {
  (void)argument;
  for (uint32_t i = 0; i < 20; ++i) {
    const int fd = open_xfrm(SOCK_CLOEXEC);
    EXPECT(bind_to(fd, 0, i) == 0);
    exchange(fd, i);
    close(fd);
  }
  return NULL;
}

static void threads(void) {
  int fd = open_xfrm(0);
  pthread_t senders[2];
  pthread_t openers[2];
  for (int i = 0; i < 2; ++i) {
    EXPECT(pthread_create(&senders[i], NULL, send_requests, &fd) == 0);
    EXPECT(pthread_create(&openers[i], NULL, open_and_bind, NULL) == 0);
  }
  for (int i = 0; i < 2 * ROUNDS; ++i) {
    struct answer answer;
    EXPECT(receive_functions[i % RECEIVE_FUNCTIONS](fd, &answer, 0) == sizeof(answer));
  }
  for (int i = 0; i < 2; ++i) {
    EXPECT(pthread_join(senders[i], NULL) == 0);
    EXPECT(pthread_join(openers[i], NULL) == 0);
  }
}

static void note(void* argument) {
  *(int*)argument = 1;
}

static void* wait_for_message(void* argument) {
  int* const state = argument;
  struct answer answer;
  pthread_cleanup_push(note, &state[1]);
  receive_message(state[0], &answer, 0);
  pthread_cleanup_pop(0);
  return NULL;
}

static void cancellation(void) {
  int state[2] = {open_xfrm(0), 0};
  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, wait_for_message, state) == 0);
  EXPECT(pthread_cancel(thread) == 0);
  void* result = NULL;
  EXPECT(pthread_join(thread, &result) == 0);
  EXPECT(result == PTHREAD_CANCELED);
  EXPECT(state[1] == 1);
  exchange(state[0], 1);
}

/* Sockets that are none of the adapter's business behave as ever. */
static void foreign(void) {
  const int route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  EXPECT(route >= 0);
  EXPECT(bind_to(route, 0, 0) == 0);
  EXPECT(name_of(route).nl_pid != 0);
  struct {
    struct nlmsghdr header;
    struct rtgenmsg body;
  } dump = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)),
                       .nlmsg_type = RTM_GETLINK,
                       .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
  EXPECT(send(route, &dump, sizeof(dump), 0) == sizeof(dump));
  char bytes[32768];
  struct sockaddr_nl source;
  socklen_t length = sizeof(source);
  EXPECT(recvfrom(route, bytes, room * 100, 0, (struct sockaddr*)&source, &length) > 0);
  expect_from_kernel(&source, length);
  EXPECT(((struct nlmsghdr*)bytes)->nlmsg_type == RTM_NEWLINK);
  const int one = 1;
  EXPECT(setsockopt(route, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one)) == 0);
  int value = 0;
  length = sizeof(value);
  EXPECT(getsockopt(route, SOL_NETLINK, NETLINK_EXT_ACK, &value, &length) == 0 && value == 1);
  EXPECT(getsockopt(route, SOL_SOCKET, SO_PROTOCOL, &value, &length) == 0 && value == 0);

  int pair[2];
  EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
  struct sockaddr_un address;
  length = sizeof(address);
  EXPECT(getsockname(pair[0], (struct sockaddr*)&address, &length) == 0);
  EXPECT(address.sun_family == AF_UNIX && length == sizeof(sa_family_t));
  EXPECT(getsockopt(pair[0], SOL_SOCKET, SO_DOMAIN, &value, &length) == 0 && value == AF_UNIX);
  const struct nlmsghdr overrun = {.nlmsg_len = sizeof(overrun), .nlmsg_type = NLMSG_OVERRUN};
  EXPECT(send(pair[0], &overrun, sizeof(overrun), 0) == sizeof(overrun));
  EXPECT(recv(pair[1], bytes, room * 100, 0) == sizeof(overrun));
  close(pair[0]);
  EXPECT(recv(pair[1], bytes, room * 100, 0) == 0);
  EXPECT(recv(pair[1], bytes, room * 100, 0) == 0);

  /* A name as long as an engine's, that is no engine's. */
  EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
  memset(&address, 0, sizeof(address));
  address.sun_family = AF_UNIX;
  const pid_t unique[] = {getpid(), getpid()};
  memcpy(address.sun_path + 2, unique, 8);
  EXPECT(bind(pair[0], (struct sockaddr*)&address, 12) == 0);
  length = sizeof(address);
  EXPECT(getpeername(pair[1], (struct sockaddr*)&address, &length) == 0);
  EXPECT(address.sun_family == AF_UNIX && length == 12);
  close(pair[0]);
  EXPECT(recv(pair[1], bytes, room * 100, 0) == 0);

  struct mmsghdr message = {.msg_hdr = {.msg_iov = NULL}};
  EXPECT_ERROR(ENOTSOCK, recvmmsg(0, &message, 1, MSG_DONTWAIT, NULL));
  EXPECT_ERROR(EBADF, (int)recvmsg(-1, &message.msg_hdr, 0));
}

/* The second engine is beside the first and gives the same port id. */
static void two_engines(void) {
  const int first = open_xfrm(0);
  EXPECT(bind_to(first, 0, 1) == 0);
  char path[108];
  snprintf(path, sizeof(path), "%s", getenv("XFRMFS_SOCKET"));
  strcpy(strrchr(path, '/') + 1, "other.sock");
  setenv("XFRMFS_SOCKET", path, 1);
  const int second = open_xfrm(0);
  EXPECT(bind_to(second, 0, 1) == 0);
  EXPECT(name_of(first).nl_pid == (uint32_t)getpid());
  EXPECT(name_of(second).nl_pid == (uint32_t)getpid());
  exchange(first, 1);
  exchange(second, 2);
}

static void unsupported(void) {
  const int lowest = dup(0);
  close(lowest);
  EXPECT_ERROR(EPROTONOSUPPORT, socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM));
  EXPECT_ERROR(EPROTONOSUPPORT, (int)syscall(SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_XFRM));
  EXPECT(dup(0) == lowest); /* nothing was left open */
}

static void not_permitted(void) {
  EXPECT_ERROR(EPERM, socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM));
}

static void no_files_left(void) {
  while (dup(0) >= 0) {
  }
  EXPECT_ERROR(EMFILE, socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM));
  close(10);
  EXPECT_ERROR(EMFILE, socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM));
  close(11);
  EXPECT(open_xfrm(0) == 10);
}

static const struct {
  const char* name;
  void (*run)(void);
} scenarios[] = {
    {"kind", kind},
    {"around_socket", around_socket},
    {"names", names},
    {"port_ids", port_ids},
    {"two_engines", two_engines},
    {"unbound", unbound},
    {"sending", sending},
    {"peeking", peeking},
    {"many", many},
    {"overrun", overrun},
    {"end", end},
    {"end_shared", end_shared},
    {"options", options},
    {"busy", busy},
    {"life", life},
    {"threads", threads},
    {"cancellation", cancellation},
    {"foreign", foreign},
    {"unsupported", unsupported},
    {"not_permitted", not_permitted},
    {"no_files_left", no_files_left},
};

int main(int count, char** arguments) {
  self = arguments[0];
  if (count == 5 && strcmp(arguments[1], "after_exec") == 0) {
    after_exec(arguments + 2);
    return 0;
  }
  for (size_t i = 0; count == 2 && i < sizeof(scenarios) / sizeof(scenarios[0]); ++i) {
    if (strcmp(scenarios[i].name, arguments[1]) == 0) {
      scenarios[i].run();
      return 0;
    }
  }
  fprintf(stderr, "usage: %s SCENARIO\n", self);
  return 2;
}
