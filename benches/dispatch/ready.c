/* A compiler that sleeps and then copies an object that was made before, for measuring a farm on one machine.
 *
 * What it is asked about itself it has the real compiler answer, so a broker takes it for one, and follows the
 * source's headers as ever. Where it is told to list what it read (gcc's SUNPRO_DEPENDENCIES), it lists the source
 * and what the source includes between quotes: "headers beside it" that include nothing, and, where they are not
 * compiled, "/all/that/the/real/compiler/reads" of its library.
 *
 * Built with -DREAL='"/usr/bin/gcc"' -DREADY='"FILE"' -DSLEEP_MS=NUMBER. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

__asm__(".section .rodata\n"
        ".globl ready_begin\nready_begin: .incbin " "\"" READY "\"" "\n"
        ".globl ready_end\nready_end: .byte 0\n.text\n");
extern const char ready_begin[], ready_end[];

/* What every driver of gcc has in it, and no program that only runs one: by that a broker tells them apart. */
const char sign[] __attribute__((used)) = "Using built-in specs.";

static int write_all(const char *path)
{
    FILE *out = fopen(path, "wb");
    if (!out) return 1;
    size_t length = (size_t)(ready_end - ready_begin);
    return (fwrite(ready_begin, 1, length, out) != length) | (fclose(out) != 0);
}

static int list(const char *source, const char *object, const char *to)
{
    char name[4096], line[4096], read[4096];
    const char *slash = strrchr(source, '/');
    int folder = slash ? (int)(slash - source) + 1 : 0;
    snprintf(name, sizeof name, "%s", to);
    name[strcspn(name, " ")] = 0;
    FILE *in = fopen(source, "r"), *out = fopen(name, "a");
    if (!in || !out) return 1;
    fprintf(out, "%s: %s", object, source);
    while (fgets(line, sizeof line, in))
        if (sscanf(line, "#include \"%4000[^\"]\"", read) == 1)
            fprintf(out, " \\\n %.*s%s", read[0] == '/' ? 0 : folder, source, read);
    fputc('\n', out);
    return fclose(in) | fclose(out);
}

int main(int argc, char **argv)
{
    const char *source = NULL, *object = NULL;
    int compiles = 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *kind = strrchr(word, '.');
        if (!strcmp(word, "-c")) compiles = 1;
        else if (!strcmp(word, "-E") || !strcmp(word, "-###") || !strcmp(word, "-v")) compiles = 0, i = argc;
        else if (!strcmp(word, "-o") && i + 1 < argc) object = argv[++i];
        else if (word[0] != '-' && kind && (!strcmp(kind, ".c") || !strcmp(kind, ".cc"))) source = word;
    }
    if (!compiles || !source || !object) {
        argv[0] = REAL;
        execv(REAL, argv);
        return 127;
    }
    const char *to = getenv("SUNPRO_DEPENDENCIES");
    if (to && list(source, object, to)) return 1;
    struct timespec pause = { SLEEP_MS / 1000, SLEEP_MS % 1000 * 1000000L };
    nanosleep(&pause, NULL);
    return write_all(object);
}
