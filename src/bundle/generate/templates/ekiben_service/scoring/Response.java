import java.nio.charset.StandardCharsets;

/** An answer: its status, its body, and what else its head says. */
final class Response {
    static final byte[] NONE = new byte[0];

    final int status;
    /** Lines, each with its end. */
    final String headers;
    final byte[] body;
    /** Whether nothing more is answered on the connection. */
    final boolean isLast;

    private Response(int status, String headers, byte[] body, boolean isLast) {
        this.status = status;
        this.headers = headers;
        this.body = body;
        this.isLast = isLast;
    }

    static Response of(int status, String kind, byte[] body, String... headers) {
        StringBuilder lines = new StringBuilder(kind.isEmpty() ? "" : "content-type: " + kind + "\r\n");
        for (int at = 0; at < headers.length; at += 2) {
            lines.append(headers[at]).append(": ").append(headers[at + 1]).append("\r\n");
        }
        return new Response(status, lines.toString(), body, false);
    }

    static Response json(int status, String text, String... headers) {
        return of(status, "application/json", text.getBytes(StandardCharsets.UTF_8), headers);
    }

    /** A refusal or a failure in words. */
    static Response detail(int status, String words, String... headers) {
        return json(status, new Json().raw("{\"detail\":").text(words).raw("}").toString(), headers);
    }

    /** One that the id of the request helps to find in the log. */
    static Response failed(int status, String words, String requestId, String... headers) {
        Json json = new Json().raw("{\"detail\":").text(words).raw(",\"request_id\":").text(requestId).raw("}");
        return json(status, json.toString(), headers);
    }

    static Response busy(Busy busy, String requestId) {
        return failed(503, busy.getMessage(), requestId, "retry-after", Integer.toString(busy.retryAfter));
    }

    static Response refused(Refusal refusal) {
        return json(refusal.status, "{\"detail\":" + refusal.detail + "}");
    }

    Response last() {
        return new Response(status, headers, body, true);
    }

    static String reason(int status) {
        switch (status) {
            case 200: return "OK";
            case 202: return "Accepted";
            case 204: return "No Content";
            case 307: return "Temporary Redirect";
            case 400: return "Bad Request";
            case 404: return "Not Found";
            case 405: return "Method Not Allowed";
            case 408: return "Request Timeout";
            case 413: return "Request Entity Too Large";
            case 415: return "Unsupported Media Type";
            case 422: return "Unprocessable Entity";
            case 431: return "Request Header Fields Too Large";
            case 500: return "Internal Server Error";
            case 503: return "Service Unavailable";
            case 504: return "Gateway Timeout";
            default: return "";
        }
    }
}
