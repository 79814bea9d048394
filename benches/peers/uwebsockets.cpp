// uWebSockets with its topics.
//
//   uwebsockets --port PORT [--echo]

#include <cstdlib>
#include <cstring>
#include <string_view>

#include "App.h"

enum class Role { Publisher, Subscriber, Echo, Idle };

struct Connection {
    Role role;
};

static Role role_of(std::string_view path, bool echo) {
    if (echo) return Role::Echo;
    if (path == "/pub") return Role::Publisher;
    if (path == "/sub") return Role::Subscriber;
    return Role::Idle;
}

int main(int argc, char **argv) {
    int port = 0;
    bool echo = false;
    for (int i = 1; i < argc; i++) {
        if (!std::strcmp(argv[i], "--echo")) echo = true;
        if (!std::strcmp(argv[i], "--port") && i + 1 < argc) port = std::atoi(argv[i + 1]);
    }

    uWS::App app;
    app.ws<Connection>("/*", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 64 << 20,
        .idleTimeout = 0,
        // Above it messages are dropped: out of reach, so that all servers do the same work.
        .maxBackpressure = 1 << 30,
        .closeOnBackpressureLimit = false,
        .sendPingsAutomatically = false,
        .upgrade = [echo](auto *response, auto *request, auto *context) {
            response->template upgrade<Connection>(
                {role_of(request->getUrl(), echo)}, request->getHeader("sec-websocket-key"),
                request->getHeader("sec-websocket-protocol"), request->getHeader("sec-websocket-extensions"), context);
        },
        .open = [](auto *ws) {
            if (ws->getUserData()->role == Role::Subscriber) ws->subscribe("room");
        },
        .message = [&app](auto *ws, std::string_view message, uWS::OpCode code) {
            Role role = ws->getUserData()->role;
            if (role == Role::Publisher) app.publish("room", message, code);
            else if (role == Role::Echo) ws->send(message, code);
        },
    });
    bool listens = false;
    app.listen("127.0.0.1", port, [&listens](auto *socket) { listens = socket != nullptr; });
    if (!listens) return 1;
    app.run();
    return 0;
}
