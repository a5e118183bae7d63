/* The modes of the runner, its deadline, its lock. */
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_S 120 /* for the request to arrive, else its sender is gone */
#define GRACE_S 5 /* after the deadline the kernel ends us, when nobody listens too */

/* One measurement at a time; the kernel lets go of the lock however we end. */
static void take_lock(const Request *request) {
    if (!request->lock) return;
    int file = open(request->lock, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0) fail("failed", "OSError: %.300s: %s", request->lock, strerror(errno));
    int64_t end = now_ns() + request->lock_wait_s * NS_PER_S;
    const struct timespec pause = {.tv_nsec = 200000000};
    while (flock(file, LOCK_EX | LOCK_NB)) {
        if (now_ns() > end) fail("busy", "another run of edgeopt has this device");
        beat("waiting for another run", 0, 0);
        nanosleep(&pause, NULL);
    }
}

static const char *compiler(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return NULL;
#endif
}

/* For the test that holds it against the agent's rule: a trace in, where it ends out. */
static int settle_only(int argc, char **argv) {
    Settle settle = {.floor_runs = 1, .ceiling_runs = 100000, .ceiling_s = 5};
    if (argc == 6) {
        settle.floor_runs = atoll(argv[2]);
        settle.floor_s = atof(argv[3]);
        settle.ceiling_runs = atoll(argv[4]);
        settle.ceiling_s = atof(argv[5]);
    }
    long long time_ns;
    bool over = false;
    while (!over && scanf("%lld", &time_ns) == 1) over = settle_add(&settle, time_ns);
    printf("%lld %d %d\n", (long long)settle.runs, over, settle.settled);
    free(settle.block);
    return 0;
}

int main(int argc, char **argv) {
    static Request request;
    if (argc > 1 && !strcmp(argv[1], "settle")) return settle_only(argc, argv);
    open_lines();
    say_begin("hello");
    say_text("schema", "edgeopt.agent/1");
    say_text("compiler", compiler());
    say_number("pid", getpid());
    say_end();
    alarm(REQUEST_S);
    read_request(&request);
    alarm((unsigned)request.deadline_s + GRACE_S);
    attend(request.silence_ms);
    if (strcmp(request.mode, "run")) fail("request", "there is no mode %.40s", request.mode);
    take_lock(&request);
    measure(&request);
    free(request.shapes);
    free(request.text);
    return 0;
}
