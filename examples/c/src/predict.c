/* A model in C: a line that was fitted elsewhere, behind an HTTP server of one file.
 *
 * POST /predict {"x": 2} is answered with {"y": 7.0}; GET /readyz with {}. One request after the other. */

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { MOST = 64 * 1024 };

static const double slope = 2.5, intercept = 2.0;

static void answer(int client, const char *status, const char *body) {
    dprintf(client,
            "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\nconnection: close\r\n\r\n%s",
            status, strlen(body), body);
}

/* The whole request, as far as its head says how long it is. */
static int receive(int client, char *text) {
    size_t length = 0;
    while (length < MOST) {
        ssize_t got = read(client, text + length, MOST - length);
        if (got <= 0) {
            return 0;
        }
        length += (size_t)got;
        text[length] = 0;
        char *body = strstr(text, "\r\n\r\n");
        if (!body) {
            continue;
        }
        char *said = strcasestr(text, "\r\ncontent-length:");
        size_t wanted = said && said < body ? strtoul(said + 17, NULL, 10) : 0;
        if (length - (size_t)(body + 4 - text) >= wanted) {
            return 1;
        }
    }
    return 0;
}

static void serve(int client) {
    static char text[MOST + 1];
    if (!receive(client, text)) {
        answer(client, "400 Bad Request", "{\"detail\": \"the request is not whole, or too large\"}");
    } else if (!strncmp(text, "GET /readyz ", 12)) {
        answer(client, "200 OK", "{}");
    } else if (strncmp(text, "POST /predict ", 14)) {
        answer(client, "404 Not Found", "{\"detail\": \"there is nothing here\"}");
    } else {
        char *body = strstr(text, "\r\n\r\n") + 4;
        char *member = strstr(body, "\"x\""), *colon = member ? strchr(member, ':') : NULL, *end = NULL;
        double x = colon ? strtod(colon + 1, &end) : 0;
        if (!colon || end == colon + 1) {
            answer(client, "422 Unprocessable Content", "{\"detail\": \"`x` is a number\"}");
        } else {
            char said[64];
            snprintf(said, sizeof said, "{\"y\": %.6g}", slope * x + intercept);
            answer(client, "200 OK", said);
        }
    }
}

int main(void) {
    const char *named = getenv("PORT");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)(named ? atoi(named) : 3000))};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("the port cannot be listened on");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    /* The first process of a container ends by no signal that it does not ask for. */
    signal(SIGTERM, _exit);
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client >= 0) {
            serve(client);
            close(client);
        }
    }
}
