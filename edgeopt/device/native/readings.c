/* What the board says about itself, by the keys of the agent's readings. Each may be null. */
#include "runner.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define SYS_CPU "/sys/devices/system/cpu"
#define THERMAL "/sys/class/thermal"
#define APEX "/sys/class/apex"
#define MAX_NAMES 1024

typedef char Name[64];

/* The text of a small system file without its last line end, false when it cannot be read. */
static bool read_small(const char *path, char *text, size_t room) {
    FILE *stream = fopen(path, "r");
    if (!stream) return false;
    size_t size = fread(text, 1, room - 1, stream);
    bool good = !ferror(stream);
    fclose(stream);
    text[size] = 0;
    size = strlen(text);
    while (size && (text[size - 1] == '\n' || text[size - 1] == ' ')) text[--size] = 0;
    return good;
}

static bool read_number(const char *path, int64_t *number) {
    char text[64], *end;
    if (!read_small(path, text, sizeof text)) return false;
    *number = strtoll(text, &end, 10);
    return end != text && !*end;
}

typedef char Path[256];

/* folder/name/file; false when that is too long. */
static bool join(Path path, const char *folder, const char *name, const char *file) {
    int size = snprintf(path, sizeof(Path), "%s/%s/%s", folder, name, file);
    return size > 0 && (size_t)size < sizeof(Path);
}

static int by_number(const void *a, const void *b) {
    const char *x = a, *y = b;
    int order = (int)strlen(x) - (int)strlen(y);
    return order ? order : strcmp(x, y);
}

/* Entries of `folder` named `prefix` and a number, in order of the number. */
static size_t list(const char *folder, const char *prefix, Name *names) {
    size_t count = 0, skip = strlen(prefix);
    DIR *found = opendir(folder);
    if (!found) return 0;
    for (struct dirent *entry; count < MAX_NAMES && (entry = readdir(found));) {
        const char *rest = entry->d_name + skip;
        if (strncmp(entry->d_name, prefix, skip) || !*rest || rest[strspn(rest, "0123456789")])
            continue;
        if (strlen(entry->d_name) < sizeof *names) strcpy(names[count++], entry->d_name);
    }
    closedir(found);
    qsort(names, count, sizeof *names, by_number);
    return count;
}

static void say_cpus(const char *key, const char *file, bool as_text, Name *cpus, size_t count) {
    say_open(key, '[');
    for (size_t i = 0; i < count; i++) {
        Path path;
        char text[128];
        int64_t number;
        bool there = join(path, SYS_CPU, cpus[i], file);
        if (as_text) say_text(NULL, there && read_small(path, text, sizeof text) ? text : NULL);
        else if (there && read_number(path, &number)) say_number(NULL, number);
        else say_null(NULL);
    }
    say_close(']');
}

/* {folder and its type: value} of thermal zones or cooling devices that answer. */
static void say_kinds(const char *key, const char *prefix, const char *file, double divisor) {
    static Name names[MAX_NAMES];
    size_t count = list(THERMAL, prefix, names);
    say_open(key, '{');
    for (size_t i = 0; i < count; i++) {
        Path path;
        char kind[128], name[256];
        int64_t value;
        if (!join(path, THERMAL, names[i], file) || !read_number(path, &value)) continue;
        bool known = join(path, THERMAL, names[i], "type") && read_small(path, kind, sizeof kind);
        if (snprintf(name, sizeof name, "%s %s", names[i], known ? kind : "") < 0) continue;
        if (divisor == 1) say_number(name, value);
        else say_real(name, (double)value / divisor);
    }
    say_close('}');
}

/* The highest or lowest of all PCIe Edge TPUs; one that sleeps answers with less than -40 degC. */
static void say_apex(const char *key, const char *file, bool highest) {
    static Name names[MAX_NAMES];
    size_t count = list(APEX, "apex_", names);
    bool known = false;
    int64_t best = 0, value;
    for (size_t i = 0; i < count; i++) {
        Path path;
        if (!join(path, APEX, names[i], file) || !read_number(path, &value)) continue;
        if (value <= -40000) continue;
        if (!known || (highest ? value > best : value < best)) best = value;
        known = true;
    }
    if (known) say_number(key, best);
    else say_null(key);
}

/* What a program prints within 5 s, at most room - 1 bytes; false when it cannot be had. */
static bool ask(char *const argv[], char *text, size_t room) {
    int ends[2];
    pid_t child;
    posix_spawn_file_actions_t actions;
    if (pipe(ends)) return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    bool started = !posix_spawnp(&child, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t size = 0;
    int64_t end = now_ns() + 5 * NS_PER_S;
    for (ssize_t got = 1; started && got > 0 && size + 1 < room;) {
        struct pollfd waiting = {.fd = ends[0], .events = POLLIN};
        int left = (int)((end - now_ns()) / 1000000);
        got = left > 0 && poll(&waiting, 1, left) > 0 ? read(ends[0], text + size, room - 1 - size) : -1;
        if (got > 0) size += (size_t)got;
    }
    close(ends[0]);
    text[size] = 0;
    if (started) kill(child, SIGKILL); /* one that has ended does not mind */
    if (started) waitpid(child, NULL, 0);
    return started && size;
}

/* Raspberry Pi: bits 0 to 3 are now, 16 to 19 since boot. */
static void say_throttled(const char *key) {
    char text[128], *end;
    char *argv[] = {"vcgencmd", "get_throttled", NULL};
    const char *value = ask(argv, text, sizeof text) ? strchr(text, '=') : NULL;
    unsigned long bits = value ? strtoul(value + 1, &end, 16) : 0;
    if (value && end != value + 1) say_number(key, (int64_t)bits);
    else say_null(key);
}

char *readings(void) {
    static Name cpus[MAX_NAMES];
    struct timespec now;
    double load;
    size_t count = list(SYS_CPU, "cpu", cpus);
    clock_gettime(CLOCK_REALTIME, &now);
    capture();
    say_open(NULL, '{');
    say_real("time", (double)now.tv_sec + (double)now.tv_nsec / 1e9);
    say_cpus("governor", "cpufreq/scaling_governor", true, cpus, count);
    say_cpus("frequency_khz", "cpufreq/scaling_cur_freq", false, cpus, count);
    say_cpus("max_frequency_khz", "cpufreq/cpuinfo_max_freq", false, cpus, count);
    say_cpus("limit_frequency_khz", "cpufreq/scaling_max_freq", false, cpus, count);
    say_cpus("throttle_count", "thermal_throttle/core_throttle_count", false, cpus, count);
    say_kinds("temperature_c", "thermal_zone", "temp", 1000);
    say_kinds("cooling", "cooling_device", "cur_state", 1);
    say_throttled("throttled_bits");
    say_apex("apex_temperature_millic", "temp", true);
    say_apex("apex_trip_millic", "trip_point0_temp", false);
    if (getloadavg(&load, 1) == 1) say_real("load_1min", load);
    else say_null("load_1min");
    say_close('}');
    return captured();
}

void say_facts(const char *key) {
    cpu_set_t cores;
    say_open(key, '{');
    if (!sched_getaffinity(0, sizeof cores, &cores)) say_number("usable_cores", CPU_COUNT(&cores));
    say_close('}');
}

int64_t resident_bytes(const char *field) {
    char row[256];
    int64_t kilobytes = -1;
    FILE *stream = fopen("/proc/self/status", "r");
    while (stream && fgets(row, sizeof row, stream))
        if (!strncmp(row, field, strlen(field)) && row[strlen(field)] == ':')
            kilobytes = strtoll(row + strlen(field) + 1, NULL, 10);
    if (stream) fclose(stream);
    return kilobytes < 0 ? -1 : kilobytes * 1024;
}
