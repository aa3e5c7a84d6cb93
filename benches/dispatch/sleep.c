/* A compiler that only sleeps, for measuring everything around the compiler.
 *
 * Answers questions as a compiler would, preprocesses by copying the source, and otherwise sleeps
 * SLEEP_MS milliseconds and writes the same few bytes as its output. */
#include <stdio.h>
#include <string.h>
#include <time.h>

static int copy(const char *from, const char *to)
{
    char buffer[65536];
    size_t length;
    FILE *in = fopen(from, "rb"), *out = to ? fopen(to, "wb") : stdout;
    if (!in || !out) return 1;
    fprintf(out, "# 1 \"%s\"\n", from);
    while ((length = fread(buffer, 1, sizeof buffer, in)) > 0) fwrite(buffer, 1, length, out);
    return fclose(in) | fclose(out);
}

int main(int argc, char **argv)
{
    const char *source = NULL, *output = NULL;
    int preprocess = 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!strcmp(word, "-v") || !strcmp(word, "--version") || !strcmp(word, "-###")) {
            FILE *to = word[1] == '-' ? stdout : stderr;
            fprintf(to, "Target: sleep-linux-gnu\nThread model: posix\ngcc version 1.0.0 (sleeping compiler)\n");
            return 0;
        }
        if (!strncmp(word, "-print-", 7)) {
            const char *name = strchr(word, '=');
            puts(name ? name + 1 : "");
            return 0;
        }
        if (!strncmp(word, "-dump", 5)) {
            puts(strcmp(word, "-dumpmachine") ? "1.0.0" : "sleep-linux-gnu");
            return 0;
        }
        if (!strcmp(word, "-E")) preprocess = 1;
        else if (!strcmp(word, "-o") && i + 1 < argc) output = argv[++i];
        else if (!strcmp(word, "-x") && i + 1 < argc) ++i;
        else if (word[0] != '-') source = word;
    }
    if (!source) return 1;
    if (preprocess) return copy(source, output);
    struct timespec pause = { SLEEP_MS / 1000, SLEEP_MS % 1000 * 1000000L };
    nanosleep(&pause, NULL);
    FILE *out = fopen(output ? output : "a.o", "wb");
    if (!out) return 1;
    fputs("an object\n", out);
    return fclose(out);
}
