/* Small system files, which may be absent, and cores. */
#include "runner.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

bool read_small(const char *path, char *text, size_t room) {
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

bool read_number(const char *path, int64_t *number) {
    char text[64], *end;
    if (!read_small(path, text, sizeof text)) return false;
    *number = strtoll(text, &end, 10);
    return end != text && !*end;
}

bool join(Path path, const char *folder, const char *name, const char *file) {
    int size = snprintf(path, sizeof(Path), "%s/%s/%s", folder, name, file);
    return size > 0 && (size_t)size < sizeof(Path);
}

static int by_number(const void *a, const void *b) {
    const char *x = a, *y = b;
    int order = (int)strlen(x) - (int)strlen(y);
    return order ? order : strcmp(x, y);
}

size_t list(const char *folder, const char *prefix, Name *names) {
    size_t count = 0, skip = prefix ? strlen(prefix) : 0;
    DIR *found = opendir(folder);
    if (!found) return 0;
    for (struct dirent *entry; count < MAX_NAMES && (entry = readdir(found));) {
        const char *name = entry->d_name, *rest = name + skip;
        if (*name == '.' || strlen(name) >= sizeof *names) continue;
        if (prefix && (strncmp(name, prefix, skip) || !*rest || rest[strspn(rest, "0123456789")]))
            continue;
        strcpy(names[count++], name);
    }
    closedir(found);
    qsort(names, count, sizeof *names, by_number);
    return count;
}

int64_t row_of(const char *path, const char *key) {
    char row[512];
    int64_t value = -1;
    size_t size = strlen(key);
    FILE *stream = fopen(path, "r");
    while (stream && value < 0 && fgets(row, sizeof row, stream))
        if (!strncmp(row, key, size) && strchr(": \t", row[size]))
            value = strtoll(row + size + 1, NULL, 10);
    if (stream) fclose(stream);
    return value;
}

int64_t resident_bytes(const char *field) {
    int64_t kilobytes = row_of("/proc/self/status", field);
    return kilobytes < 0 ? -1 : kilobytes * 1024;
}
