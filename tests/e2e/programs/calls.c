/*
 * HTTP by every system call that moves bytes at a socket. Prints the server's port, then the name
 * of each way in which one request and its answer were sent and received.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *ways[] = {"read_write",	   "recv_send",	      "readv_writev",
			     "recvmsg_sendmsg",	   "recvmmsg_sendmmsg", "preadv2_pwritev2",
			     "peek_then_read"};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* In three pieces, one of them empty, to try vectors. */
static void split(struct iovec *pieces, char *data, size_t size)
{
	pieces[0] = (struct iovec){data, size / 3};
	pieces[1] = (struct iovec){data, 0};
	pieces[2] = (struct iovec){data + size / 3, size - size / 3};
}

static void put(int fd, int way, char *data)
{
	size_t size = strlen(data);
	struct iovec pieces[3];
	struct mmsghdr messages[2];
	ssize_t sent = -1;

	split(pieces, data, size);
	memset(messages, 0, sizeof(messages));
	messages[0].msg_hdr.msg_iov = pieces;
	messages[0].msg_hdr.msg_iovlen = 3;
	switch (way) {
	case 0:
	case 6:
		sent = write(fd, data, size);
		break;
	case 1:
		sent = send(fd, data, size, 0);
		break;
	case 2:
		sent = writev(fd, pieces, 3);
		break;
	case 3:
		sent = sendmsg(fd, &messages[0].msg_hdr, 0);
		break;
	case 4:
		messages[0].msg_hdr.msg_iovlen = 1;
		messages[1].msg_hdr.msg_iov = &pieces[2];
		messages[1].msg_hdr.msg_iovlen = 1;
		if (sendmmsg(fd, messages, 2, 0) == 2)
			sent = messages[0].msg_len + messages[1].msg_len;
		break;
	case 5:
		sent = pwritev2(fd, pieces, 3, -1, 0);
		break;
	}
	if (sent != (ssize_t)size)
		fail("send");
}

static void take(int fd, int way, const char *end)
{
	static char data[4096];
	struct iovec pieces[3];
	struct mmsghdr message;
	size_t have = 0;

	memset(data, 0, sizeof(data));
	while (!strstr(data, end)) {
		ssize_t got = -1;

		split(pieces, data + have, sizeof(data) - 1 - have);
		memset(&message, 0, sizeof(message));
		message.msg_hdr.msg_iov = pieces;
		message.msg_hdr.msg_iovlen = 3;
		switch (way) {
		case 0:
			got = read(fd, data + have, sizeof(data) - 1 - have);
			break;
		case 1:
			got = recv(fd, data + have, sizeof(data) - 1 - have, 0);
			break;
		case 2:
			got = readv(fd, pieces, 3);
			break;
		case 3:
			got = recvmsg(fd, &message.msg_hdr, 0);
			break;
		case 4:
			if (recvmmsg(fd, &message, 1, 0, NULL) == 1)
				got = message.msg_len;
			break;
		case 5:
			got = preadv2(fd, pieces, 3, -1, 0);
			break;
		case 6:
			if (recv(fd, data + have, sizeof(data) - 1 - have, MSG_PEEK) <= 0)
				fail("peek");
			got = read(fd, data + have, sizeof(data) - 1 - have);
			break;
		}
		if (got <= 0)
			fail("receive");
		have += got;
	}
}

int main(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd;
	char text[256];
	unsigned way;
	pid_t server;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 8) ||
	    getsockname(listener, (struct sockaddr *)&address, &size))
		fail("listen");
	server = fork();
	if (server == 0) {
		for (way = 0; way < WAYS; way++) {
			fd = accept(listener, NULL, NULL);
			take(fd, way, "\r\n\r\n");
			put(fd, way, strcpy(text, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfine\n"));
			/* Until the client is done, so that no reset cuts its last read. */
			if (read(fd, text, 1) != 0)
				fail("end");
			close(fd);
		}
		return 0;
	}
	printf("%d", ntohs(address.sin_port));
	for (way = 0; way < WAYS; way++) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
			fail("connect");
		snprintf(text, sizeof(text), "GET /%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n",
			 ways[way], ntohs(address.sin_port));
		put(fd, way, text);
		take(fd, way, "fine\n");
		close(fd);
		printf(" %s", ways[way]);
	}
	printf("\n");
	waitpid(server, NULL, 0);
	return 0;
}
