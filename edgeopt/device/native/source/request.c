/* The request: lines of "key value" on stdin. What is not as the host writes it is refused. */
#include "runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_REQUEST (64u << 20)
#define MAX_BYTES ((size_t)1 << 40)

typedef struct {
    const char *name;
    int type; /* of LiteRtElementType, which are TfLiteType's numbers */
    size_t bytes;
} Element;

static const Element elements[] = {
    {"float32", 1, 4}, {"int32", 2, 4},   {"uint8", 3, 1},    {"int64", 4, 8},
    {"bool", 6, 1},    {"int16", 7, 2},   {"complex64", 8, 8}, {"int8", 9, 1},
    {"float16", 10, 2}, {"float64", 11, 8}, {"uint64", 13, 8}, {"uint32", 16, 4},
    {"uint16", 17, 2},
};
#define ELEMENTS (sizeof elements / sizeof *elements)

size_t element_bytes(int type) {
    for (size_t i = 0; i < ELEMENTS; i++)
        if (elements[i].type == type) return elements[i].bytes;
    return 0;
}

const char *element_name(int type) {
    for (size_t i = 0; i < ELEMENTS; i++)
        if (elements[i].type == type) return elements[i].name;
    return NULL;
}

static int64_t whole(const char *key, const char *value, int64_t low, int64_t high) {
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (errno || end == value || *end || number < low || number > high)
        fail("request", "%s is %.40s", key, value);
    return number;
}

/* Until the line "end": stdin may stay open behind it, see attend.c. */
static char *read_stdin(void) {
    size_t size = 1, room = 1 << 16;
    char *text = malloc(room), *end = NULL;
    if (text) memcpy(text, "\n", 2);
    while (text && !end) {
        ssize_t got = read(0, text + size, room - size - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) fail("request", "it has no end");
        if (memchr(text + size, 0, (size_t)got)) fail("request", "it holds a zero byte");
        size_t seen = size < 5 ? 0 : size - 5;
        text[size += (size_t)got] = 0;
        end = strstr(text + seen, "\nend\n");
        if (end || size + 1 < room) continue;
        if (room >= MAX_REQUEST) fail("request", "longer than %u bytes", MAX_REQUEST);
        char *more = realloc(text, room *= 2);
        if (!more) free(text);
        text = more;
    }
    if (!text) fail("failed", "MemoryError: no memory for the request");
    end[1] = 0;
    return text;
}

/* "float32 1,224,224,3"; no dimensions is a scalar. */
static void read_shape(char *value, Shape *shape) {
    char *dims = strchr(value, ' ');
    if (!dims) fail("request", "input is %.40s", value);
    *dims++ = 0;
    *shape = (Shape){.type = 0};
    for (size_t i = 0; i < ELEMENTS; i++)
        if (!strcmp(elements[i].name, value)) shape->type = elements[i].type;
    shape->bytes = element_bytes(shape->type);
    if (!shape->bytes) fail("inputs", "no input can have type %.40s", value);
    for (char *next; *dims; dims = next) {
        next = strchr(dims, ',');
        if (next) *next++ = 0;
        else next = dims + strlen(dims);
        if (shape->rank == MAX_RANK) fail("inputs", "an input has more than 8 dimensions");
        int64_t dim = whole("a dimension", dims, 0, INT32_MAX);
        shape->dims[shape->rank++] = (int32_t)dim;
        if (dim && shape->bytes > MAX_BYTES / (size_t)dim) fail("inputs", "an input is too large");
        shape->bytes *= (size_t)dim;
    }
}

static void add_input(Request *self, char *value, size_t *room, size_t *count) {
    if (!self->samples) fail("request", "an input before the first sample");
    if (*count == *room) {
        *room = *room ? 2 * *room : 64;
        Shape *more = realloc(self->shapes, *room * sizeof *more);
        if (!more) fail("failed", "MemoryError: no memory for the samples");
        self->shapes = more;
    }
    read_shape(value, &self->shapes[(*count)++]);
}

static bool take_text(Request *self, const char *key, char *value) {
    const struct {
        const char *key;
        const char **place;
    } texts[] = {
        {"mode", &self->mode},       {"library", &self->library},
        {"version", &self->version}, {"model", &self->model},
        {"kernels", &self->kernels}, {"model_sha256", &self->model_sha256},
        {"lock", &self->lock},       {"inputs", &self->inputs},
        {"outputs", &self->outputs}, {"inputs_sha256", &self->inputs_sha256},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!strcmp(texts[i].key, key)) return *texts[i].place = value, true;
    return false;
}

static bool take_number(Request *self, const char *key, const char *value) {
    const struct {
        const char *key;
        int64_t *place, low, high;
    } numbers[] = {
        {"deadline_s", &self->deadline_s, 1, 8 * 86400},
        {"silence_ms", &self->silence_ms, 0, 86400000},
        {"lock_wait_s", &self->lock_wait_s, 0, 86400},
        {"threads", &self->threads, 1, 1024},
        {"seed", &self->seed, 0, INT32_MAX},
        {"runs", &self->runs, 0, 100000000},
        {"max_runs", &self->max_runs, 0, 100000000},
        {"warmup", &self->warmup, -1, 100000000},
        {"time_ns", &self->time_ns, 0, 8 * 86400 * NS_PER_S},
        {"ceiling_runs", &self->ceiling_runs, 1, 100000000},
        {"ceiling_ns", &self->ceiling_ns, 1, 8 * 86400 * NS_PER_S},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(numbers[i].key, key))
            return *numbers[i].place = whole(key, value, numbers[i].low, numbers[i].high), true;
    return false;
}

void read_request(Request *self) {
    *self = (Request){.threads = 1, .deadline_s = 60, .kernels = "xnnpack", .mode = "", .seed = 1,
                      .max_runs = 10000000, .ceiling_runs = 100000, .ceiling_ns = 5 * NS_PER_S};
    self->text = read_stdin();
    char *line = self->text + 1;
    size_t room = 0, count = 0;
    for (char *next; *line; line = next) {
        next = strchr(line, '\n');
        if (!next) fail("request", "a line without an end");
        *next++ = 0;
        char *value = strchr(line, ' ');
        if (!value) fail("request", "%.40s", line);
        *value++ = 0;
        if (!strcmp(line, "input")) add_input(self, value, &room, &count);
        else if (!strcmp(line, "sample")) self->samples++;
        else if (!strcmp(line, "stateful")) self->stateful = *value == '1';
        else if (!take_text(self, line, value) && !take_number(self, line, value))
            fail("request", "%.40s is not known", line);
    }
    if (self->samples) {
        self->inputs_per_sample = count / self->samples;
        if (!count || count % self->samples || self->inputs_per_sample > MAX_TENSORS)
            fail("inputs", "%zu inputs for %zu samples", count, self->samples);
    }
}

void *read_file(const char *path, size_t *size) {
    FILE *stream = path ? fopen(path, "rb") : NULL;
    struct stat facts;
    if (!stream || fstat(fileno(stream), &facts))
        fail("failed", "OSError: %.300s: %s", path ? path : "no path", strerror(errno));
    *size = (size_t)facts.st_size;
    void *content = NULL;
    if (posix_memalign(&content, 64, *size + 64))
        fail("failed", "MemoryError: no memory for a file of %zu bytes", *size);
    if (fread(content, 1, *size, stream) != *size || fclose(stream))
        fail("failed", "OSError: %.300s: cannot be read whole", path);
    return content;
}
