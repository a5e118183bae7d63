/* Timed runs: nothing but the model's run is between two readings of the clock. */
#include "runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BLOCK_RUNS 50000
#define BLOCK_NS NS_PER_S /* so often the times are sent: a runner that is killed loses no more */

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static uint64_t next_random(uint64_t *state) { /* splitmix64: public domain, S. Vigna 2015 */
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* As the agent's: full range for 8 and 16 bit, 0..1 for other integers, -1..1 for floats. */
static void fill_random(Tensor *tensor, uint64_t *state) {
    const char *name = element_name(tensor->shape.type);
    size_t bytes = element_bytes(tensor->shape.type), count = tensor->shape.bytes / bytes;
    uint8_t *at = tensor->memory;
    for (size_t i = 0; i < count; i++, at += bytes) {
        uint64_t bits = next_random(state);
        double real = (double)(bits >> 11) / 4503599627370496.0 - 1;
        float single = (float)real;
        int64_t small = (int64_t)(bits >> 63);
        if (!strcmp(name, "float32")) memcpy(at, &single, 4);
        else if (!strcmp(name, "float64")) memcpy(at, &real, 8);
        else if (strstr(name, "float") || strstr(name, "complex"))
            fail("inputs", "no random input can be made for type %s", name);
        else if (bytes <= 2 && strcmp(name, "bool")) memcpy(at, &bits, bytes);
        else memset(at, 0, bytes), *at = (uint8_t)small; /* little-endian, as the samples are */
    }
}

/* Where each sample begins in the file of inputs, checked against its size and hash. */
static uint8_t *given_inputs(const Request *request) {
    size_t size = 0, wanted = 0;
    char hex[65];
    Sha256 digest;
    uint8_t *content = read_file(request->inputs, &size);
    sha256_start(&digest);
    sha256_add(&digest, content, size);
    sha256_end(&digest, hex);
    for (size_t i = 0; i < request->samples * request->inputs_per_sample; i++)
        wanted += request->shapes[i].bytes;
    if (!request->inputs_sha256 || strcmp(hex, request->inputs_sha256) || size != wanted)
        fail("inputs", "the inputs on the device are not those that were sent");
    return content;
}

typedef struct {
    const Request *request;
    Session session;
    uint8_t *inputs;  /* NULL: the buffers hold a random sample */
    size_t *offsets;  /* of each sample */
} Run;

static void find_offsets(Run *self) {
    const Request *request = self->request;
    size_t offset = 0, each = request->inputs_per_sample;
    self->offsets = calloc(request->samples, sizeof *self->offsets);
    if (!self->offsets) fail("failed", "MemoryError: no memory for the samples");
    for (size_t s = 0; s < request->samples; s++) {
        self->offsets[s] = offset;
        for (size_t k = 0; k < each; k++) {
            const Shape *shape = &request->shapes[s * each + k];
            const Shape *wanted = &self->session.input[k].shape;
            if (shape->type != wanted->type || shape->rank != wanted->rank ||
                memcmp(shape->dims, wanted->dims, (size_t)shape->rank * sizeof *shape->dims))
                fail("inputs", "sample %zu does not fit input %zu, which is %s of %zu bytes", s, k,
                     element_name(wanted->type), wanted->bytes);
            offset += shape->bytes;
        }
    }
}

static void set_inputs(Run *self, size_t index) {
    if (!self->inputs) return;
    const uint8_t *from = self->inputs + self->offsets[index % self->request->samples];
    for (size_t k = 0; k < self->request->inputs_per_sample; k++) {
        Tensor *tensor = &self->session.input[k];
        memcpy(tensor->memory, from, tensor->shape.bytes);
        from += tensor->shape.bytes;
    }
}

/* When a phase has had enough runs, told of the last one's time; 0 when it has none. */
typedef struct {
    int64_t least, most, left_ns; /* `least` runs, then until no time is left or `most` */
    Settle *settle;               /* or until this has settled */
} Enough;

static bool has_enough(Enough *self, int64_t count, int64_t spent_ns) {
    if (self->settle) return count && settle_add(self->settle, spent_ns);
    self->left_ns -= spent_ns;
    return (count >= self->least && self->left_ns <= 0) || count >= self->most;
}

static void say_block(const char *phase, const int64_t *times, size_t count) {
    if (!count) return;
    say_begin("times");
    say_text("phase", phase);
    say_open("ns", '[');
    for (size_t i = 0; i < count; i++) say_number(NULL, times[i]);
    say_close(']');
    say_end();
}

static int64_t time_phase(Run *self, const char *phase, Enough enough) {
    static int64_t block[BLOCK_RUNS];
    size_t held = 0;
    int64_t count = 0, spent = 0, sent = now_ns();
    say_stage(phase, NULL);
    while (!has_enough(&enough, count, spent)) {
        set_inputs(self, (size_t)count);
        int64_t began = now_ns();
        run_session(&self->session);
        int64_t ended = now_ns();
        spent = ended > began ? ended - began : 1;
        block[held++] = spent;
        count++;
        if (ended - sent > BLOCK_NS || held == BLOCK_RUNS) {
            say_block(phase, block, held);
            held = 0;
            sent = now_ns();
        }
        watch_between();
    }
    say_block(phase, block, held);
    return count;
}

static void time_phases(Run *self, int64_t counts[3]) {
    const Request *request = self->request;
    Settle settle = {.floor_runs = 1, .ceiling_runs = request->ceiling_runs,
                     .ceiling_s = (double)request->ceiling_ns / 1e9};
    Enough warm = {.least = request->warmup, .most = request->warmup,
                   .settle = request->warmup < 0 ? &settle : NULL};
    int64_t most = request->runs > request->max_runs ? request->runs : request->max_runs;
    Enough samples = {.least = request->runs, .left_ns = request->time_ns,
                      .most = request->time_ns ? most : request->runs};
    counts[0] = counts[1] = counts[2] = 0;
    if (!request->runs) return;
    watch_begin();
    counts[0] = time_phase(self, "first", (Enough){.least = 1, .most = 1});
    counts[1] = time_phase(self, "warmup", warm);
    counts[2] = time_phase(self, "samples", samples);
    watch_end();
    free(settle.block);
}

static void say_known(const char *key, int64_t value) {
    if (value > 0) say_number(key, value);
    else say_null(key);
}

static void say_layout(const Run *self) {
    say_open("layout", '[');
    for (size_t s = 0; s < self->request->samples; s++) {
        say_open(NULL, '[');
        for (size_t k = 0; k < self->session.outputs; k++) {
            const Shape *shape = &self->session.output[k].shape;
            say_open(NULL, '{');
            say_text("dtype", element_name(shape->type));
            say_open("shape", '[');
            for (int i = 0; i < shape->rank; i++) say_number(NULL, shape->dims[i]);
            say_close(']');
            say_close('}');
        }
        say_close(']');
    }
    say_close(']');
}

/* Every sample's outputs, raw and one after the other in one file; returns their size. */
static int64_t collect(Run *self, const void *model, size_t size, char hex[65]) {
    const Request *request = self->request;
    int64_t written = 0;
    Sha256 digest;
    say_stage("outputs", NULL);
    FILE *stream = fopen(request->outputs, "wb");
    if (!stream) fail("failed", "OSError: %.300s: %s", request->outputs, strerror(errno));
    sha256_start(&digest);
    for (size_t s = 0; s < request->samples; s++) {
        if (request->stateful) { /* the C API has no way to forget: begin anew */
            close_session(&self->session);
            open_session(&self->session, request, model, size);
        }
        set_inputs(self, s);
        run_session(&self->session);
        for (size_t k = 0; k < self->session.outputs; k++) {
            const Tensor *tensor = &self->session.output[k];
            sha256_add(&digest, tensor->memory, tensor->shape.bytes);
            if (fwrite(tensor->memory, 1, tensor->shape.bytes, stream) != tensor->shape.bytes)
                fail("failed", "OSError: the outputs: %s", strerror(errno));
            written += (int64_t)tensor->shape.bytes;
        }
        beat("outputs", (int64_t)s + 1, (int64_t)request->samples);
    }
    if (fclose(stream)) fail("failed", "OSError: the outputs: %s", strerror(errno));
    sha256_end(&digest, hex);
    return written;
}

static void check_model(const Request *request, const void *model, size_t size, char hex[65]) {
    Sha256 digest;
    sha256_start(&digest);
    sha256_add(&digest, model, size);
    sha256_end(&digest, hex);
    if (!request->model_sha256 || strcmp(hex, request->model_sha256)) fail("model_hash", "%s", hex);
}

static void say_result(Run *self, const char *digest, int64_t init_ns, const int64_t counts[3],
                       const int64_t memory[2], const char *outputs, int64_t size) {
    say_text("runtime", "native");
    say_text("runtime_version", self->request->version);
    say_text("accelerator", "cpu");
    say_text("model_sha256", digest);
    say_number("init_ns", init_ns);
    say_open("counts", '{');
    say_number("first", counts[0]);
    say_number("warmup", counts[1]);
    say_number("samples", counts[2]);
    say_close('}');
    say_known("base_rss_bytes", memory[0]);
    say_known("peak_rss_bytes", memory[1]);
    if (!outputs) {
        say_null("outputs");
        return;
    }
    say_open("outputs", '{');
    say_layout(self);
    say_text("sha256", outputs);
    say_number("size_bytes", size);
    say_close('}');
}

void measure(const Request *request) {
    static Run run;
    size_t size = 0;
    char digest[65], outputs[65];
    int64_t counts[3], memory[2], written = 0;
    uint64_t state = (uint64_t)request->seed;
    run.request = request;
    say_stage("load", "native");
    open_runtime(request);
    memory[0] = resident_bytes("VmHWM");
    void *model = read_file(request->model, &size);
    check_model(request, model, size, digest);
    if (request->samples) run.inputs = given_inputs(request);
    char *before = readings();
    int64_t start = now_ns();
    open_session(&run.session, request, model, size);
    int64_t init_ns = now_ns() - start;
    if (run.session.passes_through)
        fail("load", "one of its inputs is an output as well: use the litert runtime");
    if (run.inputs) find_offsets(&run);
    else for (size_t k = 0; k < run.session.inputs; k++) fill_random(&run.session.input[k], &state);
    time_phases(&run, counts);
    char *after = readings();
    memory[1] = resident_bytes("VmHWM");
    int64_t call_ns = request->runs ? call_overhead_ns(request) : -1;
    bool wanted = request->outputs && request->samples;
    if (wanted) written = collect(&run, model, size, outputs);
    say_begin("result");
    say_result(&run, digest, init_ns, counts, memory, wanted ? outputs : NULL, written);
    say_open("conditions", '{');
    say_raw("before", before);
    say_watched("during");
    say_raw("after", after);
    say_known("call_overhead_ns", call_ns);
    say_close('}');
    say_facts("facts");
    say_end();
    close_session(&run.session);
    free(before);
    free(after);
    free(run.inputs);
    free(run.offsets);
    free(model);
}
