// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The whole kernel side of `--loader bcc`, compiled on the host by BCC: plaintext of OpenSSL, and
 * of HTTP at file descriptors.
 *
 * It reads registers, system call arguments and memory of the process, and no structure of the
 * kernel: so headers of another kernel do for it, and it needs no type information. What a
 * descriptor is, and who its peer is, user space finds out and may veto; what this file says of a
 * descriptor is only that its bytes look like HTTP. It shares nothing with the other programs of
 * this project but the wire format, which makes it a second witness of the same bytes.
 *
 * BCC's dialect: no globals, no functions of their own, `map.method()`, and no map method inside a
 * macro. BCC understands maps in its main file only, so the loader puts the files that are included
 * here in their place. It defines AGENT_TGID and RING_PAGES.
 */
#include <uapi/linux/ptrace.h>
#include "otel_tap.h"

#include "state.h"
#include "events.h"
#include "sessions.h"
#include "descriptors.h"
#include "syscalls.h"
