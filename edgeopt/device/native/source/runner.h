/* The native runner: times a .tflite through the C API of LiteRT. C99 and POSIX, nothing else.
 *
 * A request on stdin, lines of "key value" and a last one "end"; JSON lines on stdout, those of the
 * on-device agent (edgeopt/device/agent/): it reads, times, and judges nothing.
 */
#ifndef EDGEOPT_RUNNER_H
#define EDGEOPT_RUNNER_H

#define _GNU_SOURCE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define MAX_TENSORS 256
#define MAX_RANK 8
#define NS_PER_S 1000000000LL

/* lines.c: the answers. A key of NULL is an item of an array. */
void open_lines(void);
void say_begin(const char *event);
void say_text(const char *key, const char *value); /* NULL is null */
void say_number(const char *key, int64_t value);
void say_real(const char *key, double value);
void say_bool(const char *key, bool value);
void say_null(const char *key);
void say_open(const char *key, char bracket);
void say_close(char bracket);
void say_raw(const char *key, const char *json);
void capture(void);   /* what is said from here on is kept */
char *captured(void); /* the text that was kept; the caller frees it */
void say_end(void);
void say_stage(const char *stage, const char *runtime);
void beat(const char *phase, int64_t done, int64_t total); /* at most once a second */
void fail(const char *code, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

/* sha256.c: FIPS 180-4. */
typedef struct {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
} Sha256;
void sha256_start(Sha256 *self);
void sha256_add(Sha256 *self, const void *data, size_t size);
void sha256_end(Sha256 *self, char hex[65]);

/* request.c */
typedef struct {
    int type; /* LiteRtElementType */
    int rank;
    int32_t dims[MAX_RANK];
    size_t bytes;
} Shape;

typedef struct {
    char *text; /* what was read; the strings below point into it */
    const char *mode, *library, *version, *model, *model_sha256, *kernels, *lock;
    const char *inputs, *inputs_sha256, *outputs;
    int64_t deadline_s, silence_ms, lock_wait_s, threads, seed;
    int64_t runs, max_runs, warmup; /* warmup -1: until settled */
    int64_t time_ns; /* of timed runs, above `runs` of them and up to `max_runs`; 0: just `runs` */
    int64_t ceiling_runs, ceiling_ns; /* of a warm-up that does not settle */
    bool stateful;
    size_t samples, inputs_per_sample;
    Shape *shapes; /* samples x inputs_per_sample */
} Request;
void read_request(Request *self);
void *read_file(const char *path, size_t *size); /* aligned to 64 bytes; fails by itself */
size_t element_bytes(int type);                   /* 0: not one that is sent as raw bytes */
const char *element_name(int type);               /* as numpy calls it */

/* attend.c: ends this process when the host is silent for so long; 0: never. */
void attend(int64_t silence_ms);

/* files.c: small system files; what cannot be read is false, or -1. */
#define SYS_CPU "/sys/devices/system/cpu"
#define MAX_NAMES 1024
typedef char Name[64];
typedef char Path[256];
bool read_small(const char *path, char *text, size_t room); /* without its last line end */
bool read_number(const char *path, int64_t *number);
bool join(Path path, const char *folder, const char *name, const char *file);
/* Entries of a folder, in order; with a prefix those of it and a number. */
size_t list(const char *folder, const char *prefix, Name *names);
int64_t row_of(const char *path, const char *key);   /* the number behind "key:" or "key " */
int64_t resident_bytes(const char *field);           /* "VmRSS" or "VmHWM" of this process */

/* readings.c: JSON, by the keys of edgeopt/device/agent/readings.py; the caller frees it. */
char *readings(void);
char *quick_readings(Name *cpus, size_t count, int core);
void say_facts(const char *key);

/* watch.c: what happens on the board while it is timed (edgeopt/device/agent/watch.py). */
void watch_begin(void);
void watch_between(void); /* after each run */
void watch_end(void);
void say_watched(const char *key);

/* session.c: a loaded model, with its inputs and outputs in the order of the file's main graph. */
typedef struct {
    Shape shape;
    void *memory;
    void *buffer; /* LiteRtTensorBuffer */
} Tensor;

typedef struct {
    void *model, *compiled;
    size_t signature, inputs, outputs;
    bool passes_through; /* an input is an output as well: the C API leaves its buffer as it is */
    Tensor input[MAX_TENSORS], output[MAX_TENSORS];
    void *run_inputs[MAX_TENSORS], *run_outputs[MAX_TENSORS]; /* in the signature's order */
} Session;
void open_runtime(const Request *request);
void open_session(Session *self, const Request *request, const void *model, size_t size);
void close_session(Session *self);
void run_session(Session *self);

/* timing.c */
int64_t now_ns(void);
void measure(const Request *request);

/* overhead.c */
int64_t call_overhead_ns(const Request *request);

/* settle.c */
enum { SETTLE_BLOCKS = 3 };
typedef struct {
    int64_t floor_runs, ceiling_runs;
    double floor_s, ceiling_s;
    bool settled;
    int64_t runs, elapsed_ns, *block, block_ns;
    size_t block_runs, block_room;
    int blocks;
    double median[SETTLE_BLOCKS], error[SETTLE_BLOCKS];
} Settle;
bool settle_add(Settle *self, int64_t time_ns); /* true: the warm-up is over */

#endif
