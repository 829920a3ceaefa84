/* SPDX-License-Identifier: Apache-2.0 */
/* What client.c asks of fake_engine.cc, as nlmsg_type. Everything else is acknowledged. */

#pragma once

/* Answers with an overrun message, then an acknowledgement. */
#define REQUEST_OVERRUN 0x101
/* Closes the session without an answer. */
#define REQUEST_END 0x102
/* Answers with three acknowledgements. */
#define REQUEST_THREE 0x103
/* Answers with an acknowledgement, then an overrun message. */
#define REQUEST_LATE_OVERRUN 0x104
/* Answers with an acknowledgement, then closes the session. */
#define REQUEST_LATE_END 0x105
/* Leaves what comes on this session alone until somebody sends REQUEST_RESUME; no answers. */
#define REQUEST_PAUSE 0x106
#define REQUEST_RESUME 0x107
