"""What h11 makes of requests: a line of hexadecimal digits each in a file, a status each on standard output."""

import sys

import h11


def judge(data):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return "wait"
            if event is h11.PAUSED or type(event) is h11.EndOfMessage:
                return "200"
    except h11.RemoteProtocolError as error:
        return str(error.error_status_hint)


print(h11.__version__)
for line in open(sys.argv[1]):
    print(judge(bytes.fromhex(line)))
