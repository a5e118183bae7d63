/* The answers: JSON lines to the host, on a copy of stdout. */
#include "runner.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static FILE *out, *kept_out;
static char *kept;
static size_t kept_size;
static bool comma;
static int64_t told_ns;

void open_lines(void) {
    int copy = dup(1);
    out = copy < 0 ? NULL : fdopen(copy, "w");
    if (!out || dup2(2, 1) < 0) exit(70); /* what the runtime prints must not land between lines */
}

static void put_text(const char *value) {
    putc('"', out);
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        if (c == '"' || c == '\\') fprintf(out, "\\%c", c);
        else if (c < 0x20) fprintf(out, "\\u%04x", c);
        else putc(c < 0x7f ? c : '?', out);
    }
    putc('"', out);
}

static void put_key(const char *key) {
    if (comma) putc(',', out);
    comma = true;
    if (!key) return;
    put_text(key);
    putc(':', out);
}

void say_begin(const char *event) {
    putc('{', out);
    comma = false;
    say_text("event", event);
}

void say_end(void) {
    fputs("}\n", out);
    if (fflush(out)) exit(74); /* nobody listens any more */
}

void say_text(const char *key, const char *value) {
    put_key(key);
    if (value) put_text(value);
    else fputs("null", out);
}

void say_number(const char *key, int64_t value) {
    put_key(key);
    fprintf(out, "%lld", (long long)value);
}

void say_real(const char *key, double value) {
    put_key(key);
    if (isfinite(value)) fprintf(out, "%.17g", value);
    else fputs("null", out);
}

void say_bool(const char *key, bool value) {
    put_key(key);
    fputs(value ? "true" : "false", out);
}

void say_null(const char *key) {
    put_key(key);
    fputs("null", out);
}

void say_open(const char *key, char bracket) {
    put_key(key);
    putc(bracket, out);
    comma = false;
}

void say_close(char bracket) {
    putc(bracket, out);
    comma = true;
}

void say_raw(const char *key, const char *json) {
    put_key(key);
    fputs(json, out);
}

void capture(void) {
    kept_out = out;
    out = open_memstream(&kept, &kept_size);
    if (!out) exit(71);
    comma = false;
}

char *captured(void) {
    if (fclose(out)) exit(71);
    out = kept_out;
    return kept;
}

void say_stage(const char *stage, const char *runtime) {
    say_begin("stage");
    say_text("stage", stage);
    if (runtime) say_text("runtime", runtime);
    say_end();
}

void beat(const char *phase, int64_t done, int64_t total) {
    int64_t now = now_ns();
    if (now - told_ns < NS_PER_S) return;
    told_ns = now;
    say_begin("progress");
    say_text("phase", phase);
    say_number("done", done);
    say_number("total", total);
    say_end();
}

void fail(const char *code, const char *format, ...) {
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say_begin("error");
    say_text("code", code);
    say_text("text", text);
    say_open("facts", '{');
    say_close('}');
    say_end();
    exit(3);
}
