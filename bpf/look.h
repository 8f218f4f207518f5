/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the first bytes of a call say: HTTP, TLS records, or neither.
 *
 * A candidate is enough here: the agent parses strictly and mutes what turns out not to be HTTP.
 */
#ifndef OTEL_TAP_LOOK_H
#define OTEL_TAP_LOOK_H

#include "state.h"

#define LOOK_BYTES 24

/* Looks granted to a connection seen since its first byte, and to one met in the middle. */
#define LOOKS_FROM_START 4
#define LOOKS_MID_STREAM 64

struct first_bytes {
	__u8 byte[LOOK_BYTES];
};

static __always_inline int read_first_bytes(struct first_bytes *out, __u64 memory, __u64 length)
{
	__u32 size = length < LOOK_BYTES ? length : LOOK_BYTES;

	__builtin_memset(out, 0, sizeof(*out));
	return bpf_probe_read_user(out, size & 31 ? (size > LOOK_BYTES ? LOOK_BYTES : size) : 1,
				   (void *)memory);
}

static __always_inline int is_tls_record(const struct first_bytes *first, __u64 length)
{
	return length >= 5 && first->byte[0] >= 0x14 && first->byte[0] <= 0x18 &&
	       first->byte[1] == 3 && first->byte[2] <= 4;
}

static __always_inline int is_token_byte(__u8 c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_';
}

/*
 * A response line, the HTTP/2 preface, or a method followed by a target: `/`, `*`, an absolute
 * URI, or for CONNECT an authority. A call that ends inside an upper-case method also counts.
 *
 * A global function: verified once, for any memory and length.
 */
__noinline int look_at(__u64 memory, __u64 length)
{
	struct first_bytes bytes, *first = &bytes;
	__u32 i;

	if (read_first_bytes(first, memory, length))
		return VERDICT_OPEN;
	if (is_tls_record(first, length))
		return VERDICT_TLS;
	if (first->byte[0] == 'H' && first->byte[1] == 'T' && first->byte[2] == 'T' &&
	    first->byte[3] == 'P' && first->byte[4] == '/')
		return VERDICT_HTTP;
	if (first->byte[0] == 'C' && first->byte[1] == 'O' && first->byte[2] == 'N' &&
	    first->byte[3] == 'N' && first->byte[4] == 'E' && first->byte[5] == 'C' &&
	    first->byte[6] == 'T' && first->byte[7] == ' ')
		return VERDICT_HTTP;
	for (i = 0; i < LOOK_BYTES - 1; i++) {
		__u8 c = first->byte[i];

		if (i >= length)
			return i > 0 ? VERDICT_HTTP : VERDICT_OPEN;
		if (c == ' ') {
			__u8 next = first->byte[i + 1];

			if (i == 0)
				return VERDICT_OPEN;
			if (next == '/' || next == '*' || next == 'h' || i + 1 >= length)
				return VERDICT_HTTP;
			return VERDICT_OPEN;
		}
		if (!is_token_byte(c))
			return VERDICT_OPEN;
		/* Only a complete method may be in lower case. */
		if (i + 1 >= length && c >= 'a')
			return VERDICT_OPEN;
	}
	return VERDICT_OPEN;
}

/* CONNECT is asked for. A global function, as above. */
__noinline int asks_for_tunnel(__u64 memory, __u64 length)
{
	struct first_bytes first;

	if (length < 8 || read_first_bytes(&first, memory, length))
		return 0;
	return first.byte[0] == 'C' && first.byte[1] == 'O' && first.byte[2] == 'N' &&
	       first.byte[3] == 'N' && first.byte[4] == 'E' && first.byte[5] == 'C' &&
	       first.byte[6] == 'T' && first.byte[7] == ' ';
}

/* TLS records, where HTTP was before. */
__noinline int begins_tls(__u64 memory, __u64 length)
{
	struct first_bytes first;

	return !read_first_bytes(&first, memory, length) && is_tls_record(&first, length);
}

/* What of HTTP/2 a call begins with. */
enum frame_seen { NO_FRAME, HEAD_FRAME, SOME_FRAME };

#define FRAME_HEADER	 9
#define FRAME_HEADERS	 1
#define FRAME_LAST	 9    /* CONTINUATION */
#define HEADERS_FLAGS	 0x2d /* END_STREAM, END_HEADERS, PADDED, PRIORITY */
#define END_HEADERS_FLAG 0x04

/*
 * HTTP/2 met in the middle, long after its preface: a call that begins with a frame (RFC 9113 4.1)
 * shorter than 64 KiB. A whole block of header fields is what the agent tells it by. A global
 * function, as above.
 */
__noinline int look_for_frame(__u64 memory, __u64 length)
{
	struct first_bytes bytes, *first = &bytes;
	__u8 kind, of_connection;

	if (length < FRAME_HEADER || read_first_bytes(first, memory, length))
		return NO_FRAME;
	kind = first->byte[3];
	if (first->byte[0] || kind > FRAME_LAST || first->byte[5] & 0x80)
		return NO_FRAME;
	of_connection = !(first->byte[5] | first->byte[6] | first->byte[7] | first->byte[8]);
	if (kind == FRAME_HEADERS) {
		if (of_connection || first->byte[4] & ~HEADERS_FLAGS ||
		    !(first->byte[1] | first->byte[2]))
			return NO_FRAME;
		return first->byte[4] & END_HEADERS_FLAG ? HEAD_FRAME : SOME_FRAME;
	}
	/* SETTINGS, PING and GOAWAY are the connection's, WINDOW_UPDATE can be. */
	if (kind != 8 && of_connection != (kind == 4 || kind == 6 || kind == 7))
		return NO_FRAME;
	/* END_STREAM and PADDED of DATA; ACK and END_HEADERS of those that have any. */
	return first->byte[4] & ~(kind ? 0x05 : 0x09) ? NO_FRAME : SOME_FRAME;
}

/* The verdict after one more look; `looks` and `from_start` bound how often it is asked again. */
static __always_inline __u8 next_verdict(__u64 memory, __u64 length, __u8 *looks, __u8 from_start)
{
	__u8 verdict = look_at(memory, length);

	if (verdict != VERDICT_OPEN)
		return verdict;
	if (!from_start) {
		int seen = look_for_frame(memory, length);

		/* Streams may go on for long before the next one begins: no look is spent. */
		if (seen != NO_FRAME)
			return seen == HEAD_FRAME ? VERDICT_HTTP : VERDICT_OPEN;
	}
	(*looks)++;
	if (*looks >= (from_start ? LOOKS_FROM_START : LOOKS_MID_STREAM))
		return VERDICT_OTHER;
	return VERDICT_OPEN;
}

#endif
