/*
 * Varied HTTP/1.1 at a constant rate: `varied serve`, or `varied PORT RATE SECONDS`.
 *
 * Paths, queries, tokens, cookies, ids and sizes differ from request to request; an answer carries
 * about 1 KB. The server prints its port, the client how many exchanges it made. In C, so that
 * what is measured is not what these two do to the caches.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 20

static unsigned long long state = 88172645463325252ULL;

static unsigned long long next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int request(char *out, size_t size)
{
	static const char *kinds[] = {"items", "users", "carts"};

	return snprintf(out, size,
			"GET /shop/%s/%llu?page=%llu&sort=name HTTP/1.1\r\n"
			"Host: shop.example:8080\r\nUser-Agent: varied/1.%llu\r\n"
			"Accept: application/json\r\nAuthorization: Bearer %016llx%016llx%016llx\r\n"
			"Cookie: session=%016llx%016llx; theme=dark\r\n"
			"X-Request-Id: %016llx%016llx\r\n"
			"traceparent: 00-%016llx%016llx-%016llx-01\r\n\r\n",
			kinds[next() % 3], next() % 1000000, next() % 100, next() % 5, next(),
			next(), next(), next(), next(), next(), next(), next(), next(),
			next() | 1);
}

static int answer(char *out, size_t size)
{
	static char filler[1200];
	int length = 900 + next() % 200;
	unsigned long long tag = next();
	time_t seconds = time(0);
	char date[64];

	if (!filler[0])
		memset(filler, 'x', sizeof(filler));
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime(&seconds));
	return snprintf(out, size,
			"HTTP/1.1 200 OK\r\nDate: %s\r\nServer: varied\r\n"
			"Content-Type: application/json\r\nContent-Length: %d\r\n"
			"ETag: \"%016llx%016llx\"\r\nSet-Cookie: seen=%016llx; Path=/\r\n\r\n"
			"{\"item\": \"%.*s\"}",
			date, length, tag, next(), tag, length - 12, filler);
}

static void serve(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN}, ready[64];
	int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), count, i;
	socklen_t size = sizeof(address);
	char bytes[65536];

	if (bind(listener, (void *)&address, size) || listen(listener, 64) ||
	    getsockname(listener, (void *)&address, &size))
		fail("listen");
	event.data.fd = listener;
	if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event))
		fail("epoll");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	while ((count = epoll_wait(poll, ready, 64, -1)) >= 0)
		for (i = 0; i < count; i++) {
			int fd = ready[i].data.fd;

			if (fd == listener) {
				event.data.fd = accept(listener, 0, 0);
				epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event);
			} else if (read(fd, bytes, sizeof(bytes)) <= 0) {
				close(fd);
			} else if (write(fd, bytes, answer(bytes, sizeof(bytes))) < 0) {
				fail("write");
			}
		}
}

static void drive(int port, double rate, double seconds)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	long total = rate * seconds, number;
	int connection[CONNECTIONS], i;
	char bytes[65536];
	double begin;

	for (i = 0; i < CONNECTIONS; i++) {
		connection[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(connection[i], (void *)&address, sizeof(address)))
			fail("connect");
	}
	begin = now();
	for (number = 0; number < total; number++) {
		double wait = begin + number / rate - now();
		int fd = connection[number % CONNECTIONS];

		if (wait > 0)
			usleep(wait * 1e6);
		if (write(fd, bytes, request(bytes, sizeof(bytes))) < 0 ||
		    read(fd, bytes, sizeof(bytes)) < 900 || strncmp(bytes, "HTTP/1.1 200", 12))
			fail("exchange");
	}
	printf("%ld\n", total);
}

int main(int argc, char **argv)
{
	state ^= (unsigned long long)(now() * 1e9) << 20;
	if (argc == 4)
		drive(atoi(argv[1]), atof(argv[2]), atof(argv[3]));
	else
		serve();
	return 0;
}
