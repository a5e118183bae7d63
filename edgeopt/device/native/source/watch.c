/* What happens on the board while it is timed: the rules of edgeopt/device/agent/watch.py. */
#include "runner.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CORES = 8, MAX_KEPT = 128 };
#define INTERVAL_NS (NS_PER_S / 2)
#define SHARE 100 /* of the time, at most a hundredth goes into readings */

enum {
    WALL, OWN, BUSY, STEAL, WAITED, VOLUNTARY, INVOLUNTARY, FAULTS, SWAPPED, P_CPU, P_MEMORY, P_IO,
    QUOTA, COUNTERS
};
static const char *const names[COUNTERS] = {
    "wall_s", "own_cpu_s", "busy_s", "steal_s", "waited_s", "voluntary_switches",
    "involuntary_switches", "major_faults", "swapped_in_pages", "pressure_cpu_s",
    "pressure_memory_s", "pressure_io_s", "quota_s"};

typedef struct {
    double value[COUNTERS];
    bool known[COUNTERS];
    int64_t seen_cores;
} Usage;

static Name cpus[MAX_NAMES];
static size_t cpu_count, kept_count;
static cpu_set_t cores; /* those that we may use, and their other halves */
static char *kept[MAX_KEPT];
static Usage at_begin, at_end;
static bool begun;
static int64_t due_ns, interval_ns;

static void set(Usage *self, int counter, double value) {
    self->value[counter] = value;
    self->known[counter] = true;
}

/* The kernel's lists, such as 0-3,8. */
static void add_cores(const char *text, cpu_set_t *found) {
    for (char *end; *text; text = *end == ',' ? end + 1 : end) {
        long low = strtol(text, &end, 10), high = low;
        if (end == text) return;
        if (*end == '-') {
            const char *second = end + 1;
            high = strtol(second, &end, 10);
            if (end == second) return;
        }
        for (long core = low; core >= 0 && core <= high && core < CPU_SETSIZE; core++)
            CPU_SET((size_t)core, found);
        if (*end != ',') return;
    }
}

static void find_cores(void) {
    static Name all[MAX_NAMES];
    cpu_set_t usable;
    size_t count = list(SYS_CPU, "cpu", all);
    bool told = !sched_getaffinity(0, sizeof usable, &usable);
    CPU_ZERO(&cores);
    cpu_count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t core = (size_t)atoi(all[i] + 3);
        Path path;
        char text[1024];
        if (told && (core >= CPU_SETSIZE || !CPU_ISSET(core, &usable))) continue;
        if (cpu_count < MAX_CORES) memcpy(cpus[cpu_count++], all[i], sizeof *cpus);
        if (!told) continue;
        CPU_SET(core, &cores);
        if (join(path, SYS_CPU, all[i], "topology/thread_siblings_list") &&
            read_small(path, text, sizeof text))
            add_cores(text, &cores);
    }
}

/* What the cores that we may use were busy with (proc(5), /proc/stat; in clock ticks). */
static void of_machine(Usage *self) {
    char row[512];
    double busy = 0, steal = 0, tick = (double)sysconf(_SC_CLK_TCK);
    FILE *stream = fopen("/proc/stat", "r");
    while (stream && fgets(row, sizeof row, stream)) {
        unsigned core;
        long long t[8];
        if (sscanf(row, "cpu%u %lld %lld %lld %lld %lld %lld %lld %lld", &core, t, t + 1, t + 2,
                   t + 3, t + 4, t + 5, t + 6, t + 7) != 9)
            continue;
        if (CPU_COUNT(&cores) && (core >= CPU_SETSIZE || !CPU_ISSET(core, &cores))) continue;
        busy += (double)(t[0] + t[1] + t[2] + t[5] + t[6]);
        steal += (double)t[7];
        self->seen_cores++;
    }
    if (stream) fclose(stream);
    if (!self->seen_cores) return;
    set(self, BUSY, busy / tick);
    set(self, STEAL, steal / tick);
}

/* Waited for a core, and was put off one, all threads (Linux's sched-stats; proc(5)). */
static void of_threads(Usage *self) {
    static Name tasks[MAX_NAMES];
    size_t count = list("/proc/self/task", "", tasks);
    double waited = 0, voluntary = 0, involuntary = 0;
    bool known = false;
    for (size_t i = 0; i < count; i++) {
        Path path;
        char text[256];
        long long ran, late, slices;
        if (!join(path, "/proc/self/task", tasks[i], "schedstat")) continue;
        if (read_small(path, text, sizeof text) &&
            sscanf(text, "%lld %lld %lld", &ran, &late, &slices) == 3) {
            waited += (double)late;
            known = true;
        }
        if (!join(path, "/proc/self/task", tasks[i], "status")) continue;
        voluntary += fmax(0, (double)row_of(path, "voluntary_ctxt_switches"));
        involuntary += fmax(0, (double)row_of(path, "nonvoluntary_ctxt_switches"));
    }
    if (!known) return;
    set(self, WAITED, waited / 1e9);
    set(self, VOLUNTARY, voluntary);
    set(self, INVOLUNTARY, involuntary);
}

static void of_pressure(Usage *self, int counter, const char *path) {
    char text[512];
    const char *total = read_small(path, text, sizeof text) ? strstr(text, "total=") : NULL;
    if (total) set(self, counter, strtod(total + 6, NULL) / 1e6);
}

/* How long a container's CPU quota held us back (cgroup v2 in us, v1 in ns). */
static void of_quota(Usage *self) {
    char row[512];
    FILE *stream = fopen("/proc/self/cgroup", "r");
    while (stream && !self->known[QUOTA] && fgets(row, sizeof row, stream)) {
        row[strcspn(row, "\n")] = 0;
        char *kinds = strchr(row, ':'), *path = kinds ? strchr(kinds + 1, ':') : NULL, file[1024];
        if (!path) continue;
        *path++ = 0;
        kinds++;
        bool second = !*kinds, first = false;
        for (char *kind = strtok(kinds, ","); kind; kind = strtok(NULL, ","))
            first = first || !strcmp(kind, "cpu");
        if (!second && !first) continue;
        int size = snprintf(file, sizeof file, "/sys/fs/cgroup%s%s/cpu.stat", second ? "" : "/cpu",
                            strcmp(path, "/") ? path : "");
        if (size < 0 || (size_t)size >= sizeof file) continue;
        int64_t us = row_of(file, "throttled_usec"), ns = row_of(file, "throttled_time");
        if (us >= 0) set(self, QUOTA, (double)us / 1e6);
        else if (ns >= 0) set(self, QUOTA, (double)ns / 1e9);
    }
    if (stream) fclose(stream);
}

static Usage usage(void) {
    Usage found = {.seen_cores = 0};
    struct timespec own;
    struct rusage children, self;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
    getrusage(RUSAGE_CHILDREN, &children);
    getrusage(RUSAGE_SELF, &self);
    set(&found, WALL, (double)now_ns() / 1e9);
    set(&found, OWN, (double)own.tv_sec + (double)own.tv_nsec / 1e9 +
        (double)(children.ru_utime.tv_sec + children.ru_stime.tv_sec) +
        (double)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) / 1e6);
    of_machine(&found);
    of_threads(&found);
    set(&found, FAULTS, (double)self.ru_majflt);
    int64_t swapped = row_of("/proc/vmstat", "pswpin");
    if (swapped >= 0) set(&found, SWAPPED, (double)swapped);
    of_pressure(&found, P_CPU, "/proc/pressure/cpu");
    of_pressure(&found, P_MEMORY, "/proc/pressure/memory");
    of_pressure(&found, P_IO, "/proc/pressure/io");
    of_quota(&found);
    return found;
}

static void look(void) {
    int64_t start = now_ns();
    kept[kept_count++] = quick_readings(cpus, cpu_count, sched_getcpu());
    if (kept_count == MAX_KEPT) { /* every other one goes, and the interval is doubled */
        kept_count = 0;
        for (size_t i = 0; i < MAX_KEPT; i++)
            if (i % 2) free(kept[i]);
            else kept[kept_count++] = kept[i];
        interval_ns *= 2;
    }
    int64_t end = now_ns(), rest = (end - start) * SHARE;
    due_ns = end + (rest > interval_ns ? rest : interval_ns);
}

void watch_begin(void) {
    find_cores();
    interval_ns = INTERVAL_NS;
    begun = true;
    at_begin = usage();
    due_ns = now_ns() + INTERVAL_NS;
}

void watch_between(void) {
    if (begun && now_ns() >= due_ns) look();
}

void watch_end(void) {
    if (!begun) return;
    at_end = usage();
    look();
    begun = false;
}

/* What was added between the two; a thread that ended takes its counters along: never below 0. */
static void say_usage(void) {
    double added[COUNTERS] = {0};
    say_open("usage", '{');
    for (int i = 0; i < COUNTERS && at_begin.known[WALL]; i++) {
        if (!at_begin.known[i] || !at_end.known[i]) continue;
        added[i] = fmax(0, at_end.value[i] - at_begin.value[i]);
        bool whole = i == VOLUNTARY || i == INVOLUNTARY || i == FAULTS || i == SWAPPED;
        if (whole) say_number(names[i], (int64_t)added[i]);
        else say_real(names[i], added[i]);
    }
    if (at_begin.known[BUSY] && at_end.known[BUSY]) {
        say_number("seen_cores", at_end.seen_cores);
        say_real("others_cpu_s", fmax(0, added[BUSY] - added[OWN]));
    }
    say_close('}');
}

void say_watched(const char *key) {
    say_open(key, '{');
    say_open("cores", '[');
    for (size_t i = 0; i < cpu_count; i++) say_number(NULL, atoi(cpus[i] + 3));
    say_close(']');
    say_open("readings", '[');
    for (size_t i = 0; i < kept_count; i++) {
        say_raw(NULL, kept[i]);
        free(kept[i]);
    }
    kept_count = 0;
    say_close(']');
    say_usage();
    say_close('}');
}
