/* Reads and writes of a pipe and a file for argv[1] seconds; prints how many calls it made. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	double end = now() + atof(argc > 1 ? argv[1] : "1");
	char name[] = "/tmp/bystander-XXXXXX", bytes[64] = "";
	int ends[2], file = mkstemp(name), i;
	unsigned long calls = 0;

	if (file < 0 || pipe(ends) || unlink(name) || write(file, bytes, sizeof(bytes)) < 0)
		return 1;
	while (now() < end)
		for (i = 0; i < 1000; i++, calls += 4)
			if (write(ends[1], bytes, sizeof(bytes)) < 0 ||
			    read(ends[0], bytes, sizeof(bytes)) < 0 ||
			    lseek(file, 0, SEEK_SET) < 0 || read(file, bytes, sizeof(bytes)) < 0)
				return 1;
	printf("%lu\n", calls);
	return 0;
}
