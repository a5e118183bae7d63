/* What the board says about itself, by the keys of the agent's readings. Each may be null. */
#include "runner.h"

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

#define THERMAL "/sys/class/thermal"
#define APEX "/sys/class/apex"
#define HWMON "/sys/class/hwmon"
#define SUPPLY "/sys/class/power_supply"
#define PI_BITS "/sys/devices/platform/soc/soc:firmware/get_throttled" /* Raspberry Pi's kernel */

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
        bool ready = left > 0 && poll(&waiting, 1, left) > 0;
        got = ready ? read(ends[0], text + size, room - 1 - size) : -1;
        if (got > 0) size += (size_t)got;
    }
    close(ends[0]);
    text[size] = 0;
    if (started) kill(child, SIGKILL); /* one that has ended does not mind */
    if (started) waitpid(child, NULL, 0);
    return started && size;
}

/* Raspberry Pi: bits 0 to 3 are now, 16 to 19 since boot. Its kernel's file, else its program. */
static void say_throttled(bool slowly) {
    char text[128], *end;
    char *argv[] = {"vcgencmd", "get_throttled", NULL};
    const char *value = read_small(PI_BITS, text, sizeof text) ? text : NULL;
    if (!value && slowly && ask(argv, text, sizeof text)) {
        value = strchr(text, '=');
        value = value ? value + 1 : NULL;
    }
    unsigned long bits = value ? strtoul(value, &end, 16) : 0;
    if (value && end != value) say_number("throttled_bits", (int64_t)bits);
    else say_null("throttled_bits");
}

/* 1 while the Raspberry Pi's sensor of its supply sees too little. */
static void say_undervoltage(void) {
    static Name names[MAX_NAMES];
    size_t count = list(HWMON, "hwmon", names);
    for (size_t i = 0; i < count; i++) {
        Path path;
        char kind[64];
        int64_t value;
        if (!join(path, HWMON, names[i], "name") || !read_small(path, kind, sizeof kind)) continue;
        if (strcmp(kind, "rpi_volt") || !join(path, HWMON, names[i], "in0_lcrit_alarm")) continue;
        if (!read_number(path, &value)) continue;
        say_number("undervoltage", value);
        return;
    }
    say_null("undervoltage");
}

/* {name: {type, online, status, capacity}} of batteries and mains; what answers. */
static void say_supplies(void) {
    static const char *const files[] = {"type", "online", "status", "capacity"};
    static Name names[MAX_NAMES];
    size_t count = list(SUPPLY, NULL, names);
    say_open("power_supply", '{');
    for (size_t i = 0; i < count; i++) {
        say_open(names[i], '{');
        for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
            Path path;
            char text[64];
            if (join(path, SUPPLY, names[i], files[f]) && read_small(path, text, sizeof text))
                say_text(files[f], text);
        }
        say_close('}');
    }
    say_close('}');
}

/* {zone and its type: degC}: from where on the kernel slows something down to cool it. */
static void say_passive_trips(void) {
    static Name names[MAX_NAMES];
    size_t count = list(THERMAL, "thermal_zone", names);
    say_open("passive_trip_c", '{');
    for (size_t i = 0; i < count; i++) {
        bool known = false;
        int64_t lowest = 0, value;
        for (int trip = 0; trip < 32; trip++) {
            Path path;
            char file[32], kind[64];
            snprintf(file, sizeof file, "trip_point_%d_type", trip);
            if (!join(path, THERMAL, names[i], file) || !read_small(path, kind, sizeof kind)) break;
            snprintf(file, sizeof file, "trip_point_%d_temp", trip);
            if (strcmp(kind, "passive") || !join(path, THERMAL, names[i], file)) continue;
            if (!read_number(path, &value)) continue;
            lowest = !known || value < lowest ? value : lowest;
            known = true;
        }
        Path path;
        char kind[128], name[256];
        if (!known) continue;
        bool typed = join(path, THERMAL, names[i], "type") && read_small(path, kind, sizeof kind);
        if (snprintf(name, sizeof name, "%s %s", names[i], typed ? kind : "") < 0) continue;
        say_real(name, (double)lowest / 1000);
    }
    say_close('}');
}

static void say_memory(const char *key, const char *field) {
    int64_t kilobytes = row_of("/proc/meminfo", field);
    if (kilobytes >= 0) say_number(key, kilobytes);
    else say_null(key);
}

static void say_quick(Name *cpus, size_t count, bool slowly) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    say_real("time", (double)now.tv_sec + (double)now.tv_nsec / 1e9);
    say_real("monotonic", (double)now_ns() / 1e9);
    say_cpus("governor", "cpufreq/scaling_governor", true, cpus, count);
    say_cpus("frequency_khz", "cpufreq/scaling_cur_freq", false, cpus, count);
    say_cpus("limit_frequency_khz", "cpufreq/scaling_max_freq", false, cpus, count);
    say_cpus("throttle_count", "thermal_throttle/core_throttle_count", false, cpus, count);
    say_kinds("temperature_c", "thermal_zone", "temp", 1000);
    say_kinds("cooling", "cooling_device", "cur_state", 1);
    say_throttled(slowly);
    say_undervoltage();
    say_apex("apex_temperature_millic", "temp", true);
    say_supplies();
}

char *quick_readings(Name *cpus, size_t count, int core) {
    capture();
    say_open(NULL, '{');
    say_quick(cpus, count, false);
    if (core >= 0) say_number("core", core);
    else say_null("core");
    say_close('}');
    return captured();
}

char *readings(void) {
    static Name cpus[MAX_NAMES];
    double load;
    size_t count = list(SYS_CPU, "cpu", cpus);
    capture();
    say_open(NULL, '{');
    say_quick(cpus, count, true);
    say_cpus("max_frequency_khz", "cpufreq/cpuinfo_max_freq", false, cpus, count);
    say_passive_trips();
    say_apex("apex_trip_millic", "trip_point0_temp", false);
    if (getloadavg(&load, 1) == 1) say_real("load_1min", load);
    else say_null("load_1min");
    say_memory("memory_available_kb", "MemAvailable");
    say_memory("swap_free_kb", "SwapFree");
    say_close('}');
    return captured();
}

void say_facts(const char *key) {
    cpu_set_t cores;
    say_open(key, '{');
    if (!sched_getaffinity(0, sizeof cores, &cores)) say_number("usable_cores", CPU_COUNT(&cores));
    say_close('}');
}
