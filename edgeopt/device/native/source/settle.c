/* When to stop warming up: the rule of edgeopt/device/agent/settle.py, number for number.
 *
 * A test holds the two against each other, on recorded and on random times.
 */
#include "runner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_RUNS = 5 };
static const double BLOCK_NS = 0.05 * 1e9, LONG_BLOCK_NS = 0.5 * 1e9;
static const double TOLERANCE = 0.02, NOISE = 3.0;

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double middle_of_three(double a, double b, double c) {
    return fmax(fmin(a, b), fmin(fmax(a, b), c));
}

/* The error is that of a normal sample's median, 1.2533 sigma / sqrt(n), sigma from quartiles. */
static void end_block(Settle *self) {
    size_t size = self->block_runs;
    memmove(self->median, self->median + 1, (SETTLE_BLOCKS - 1) * sizeof *self->median);
    memmove(self->error, self->error + 1, (SETTLE_BLOCKS - 1) * sizeof *self->error);
    qsort(self->block, size, sizeof *self->block, by_size);
    double median = (double)(self->block[(size - 1) / 2] + self->block[size / 2]) / 2;
    double error = 0;
    if (size >= 4) {
        double sigma = (double)(self->block[3 * size / 4] - self->block[size / 4]) / 1.349;
        error = 1.2533 * sigma / sqrt((double)size);
    }
    self->median[SETTLE_BLOCKS - 1] = median;
    self->error[SETTLE_BLOCKS - 1] = error;
    if (self->blocks < SETTLE_BLOCKS) self->blocks++;
    self->block_runs = 0;
    self->block_ns = 0;
}

static bool agree(const Settle *self) {
    if (self->blocks < SETTLE_BLOCKS) return false;
    const double *m = self->median, *e = self->error;
    double low = fmin(m[0], fmin(m[1], m[2])), high = fmax(m[0], fmax(m[1], m[2]));
    return high - low <= fmax(TOLERANCE * low, NOISE * middle_of_three(e[0], e[1], e[2]));
}

bool settle_add(Settle *self, int64_t time_ns) {
    if (self->block_runs == self->block_room) {
        self->block_room = self->block_room ? 2 * self->block_room : 4096;
        int64_t *more = realloc(self->block, self->block_room * sizeof *more);
        if (!more) fail("failed", "MemoryError: no memory for the warm-up's times");
        self->block = more;
    }
    self->runs++;
    self->elapsed_ns += time_ns;
    self->block[self->block_runs++] = time_ns;
    self->block_ns += time_ns;
    bool enough = self->block_runs >= BLOCK_RUNS && (double)self->block_ns >= BLOCK_NS;
    if (enough || (double)self->block_ns >= LONG_BLOCK_NS) {
        end_block(self);
        self->settled = agree(self);
    }
    if (self->runs >= self->ceiling_runs || (double)self->elapsed_ns >= self->ceiling_s * 1e9)
        return true;
    if (self->runs < self->floor_runs || (double)self->elapsed_ns < self->floor_s * 1e9)
        return false;
    return self->settled;
}
