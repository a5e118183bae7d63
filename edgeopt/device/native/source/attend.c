/* A run ends soon after nobody waits for it any more: the rule of edgeopt/device/agent/attend.py.
 *
 * The host sends a line every few seconds. A thread listens, asleep but for those lines.
 */
#include "runner.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static int silence_ms;

/* By a signal that says why; then the rest of the group, if it is a session's own. */
static void end_alone(void) {
    kill(getpid(), SIGUSR1);
    sleep(1);
    if (getpgrp() == getsid(0)) killpg(getpgrp(), SIGKILL);
    _exit(128 + SIGUSR1);
}

static void *watch(void *nothing) {
    char beats[4096];
    for (;;) {
        struct pollfd host = {.fd = 0, .events = POLLIN};
        int ready = poll(&host, 1, silence_ms);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0 || read(0, beats, sizeof beats) <= 0) end_alone();
    }
    return nothing;
}

void attend(int64_t silence) {
    pthread_t thread;
    if (silence <= 0) return;
    silence_ms = (int)silence;
    if (pthread_create(&thread, NULL, watch, NULL)) fail("failed", "no thread can be started");
    pthread_detach(thread);
}
