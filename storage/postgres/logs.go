package postgres

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	maxLogLine    = 16 << 10 // bytes kept of one line; the rest is skipped
	maxLogMessage = 64 << 10 // bytes kept of one message with its further lines
	tailMessages  = 12       // last messages kept for the error of a failed start
)

// logForwarder passes the server's log from its standard error on to a slog.Logger, one record per message.
type logForwarder struct {
	log    *slog.Logger
	r, w   *os.File
	closed sync.Once
	done   chan struct{} // closed when everything was read

	mu   sync.Mutex
	tail []string // guarded by mu
}

func newLogForwarder(log *slog.Logger) (*logForwarder, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	f := &logForwarder{log: log, r: r, w: w, done: make(chan struct{})}
	go f.run()
	return f, nil
}

// close ends forwarding once every server process has closed its end too, or after the grace period: a backend that
// outlived its server may hold on to it.
func (f *logForwarder) close(grace time.Duration) {
	f.closed.Do(func() {
		f.w.Close()
		_ = f.r.SetReadDeadline(time.Now().Add(grace))
	})
	<-f.done
}

// lastMessages are the latest messages, oldest first.
func (f *logForwarder) lastMessages() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.tail, "\n")
}

// logMessage is a server message: its first line, and the DETAIL, HINT and STATEMENT lines that followed.
type logMessage struct {
	pid, sqlState, session, severity, text string
	extra                                  []any
	size                                   int
}

var (
	prefixedLine = regexp.MustCompile(`^\[(\d+)\] ([0-9A-Z]{5}) (?:(\S*@\S*) )?([A-Z]+\d?):\s+(.*)$`)
	// Before it has read its configuration a server logs with its own default prefix, and so does initdb's.
	defaultLine = regexp.MustCompile(`^(?:\S+ \S+ \S+ \[(\d+)\] )?([A-Z]+\d?):\s+(.*)$`)
)

func (f *logForwarder) run() {
	defer close(f.done)
	defer f.r.Close()
	in := bufio.NewReaderSize(f.r, maxLogLine)
	var pending *logMessage
	for {
		line, err := readLine(in)
		if err != nil {
			f.emit(pending)
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				f.log.Warn("Reading the PostgreSQL server's log failed", "err", err)
			}
			return
		}
		next := parseLogLine(line)
		if pending != nil && next.continues(pending) {
			pending.add(next)
		} else {
			f.emit(pending)
			pending = next
		}
		// The server writes a message with all its lines at once: nothing buffered means that it is complete.
		if in.Buffered() == 0 {
			f.emit(pending)
			pending = nil
		}
	}
}

// readLine returns a line without its end, cut to the reader's buffer.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	text := strings.TrimRight(string(line), "\r\n")
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = in.ReadSlice('\n')
	}
	if err != nil && text == "" {
		return "", err
	}
	return text, nil
}

func parseLogLine(line string) *logMessage {
	if m := prefixedLine.FindStringSubmatch(line); m != nil {
		return &logMessage{pid: m[1], sqlState: m[2], session: m[3], severity: m[4], text: m[5], size: len(line)}
	}
	if m := defaultLine.FindStringSubmatch(line); m != nil {
		return &logMessage{pid: m[1], severity: m[2], text: m[3], size: len(line)}
	}
	return &logMessage{text: strings.TrimPrefix(line, "\t"), size: len(line)}
}

// continues says whether the line belongs to the message before it.
func (m *logMessage) continues(before *logMessage) bool {
	switch m.severity {
	case "":
		return before.severity != ""
	case "DETAIL", "HINT", "QUERY", "CONTEXT", "STATEMENT", "LOCATION", "BACKTRACE":
		return m.pid == before.pid
	}
	return false
}

func (m *logMessage) add(line *logMessage) {
	m.size += line.size
	switch {
	case m.size > maxLogMessage:
	case line.severity != "":
		m.extra = append(m.extra, strings.ToLower(line.severity), line.text)
	case len(m.extra) > 0:
		last := len(m.extra) - 1
		m.extra[last] = m.extra[last].(string) + "\n" + line.text
	default:
		m.text += "\n" + line.text
	}
}

// level maps a server's severity. An ERROR ends one statement, whose sender is told and reports it where it matters;
// class 57P is the server refusing or ending sessions because it starts, stops or recovers.
func (m *logMessage) level() slog.Level {
	switch {
	case strings.HasPrefix(m.severity, "DEBUG"):
		return slog.LevelDebug
	case m.severity == "PANIC":
		return slog.LevelError
	case m.severity == "FATAL" && !strings.HasPrefix(m.sqlState, "57P"):
		return slog.LevelError
	case m.severity == "WARNING", m.severity == "ERROR":
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func (f *logForwarder) emit(m *logMessage) {
	if m == nil || m.text == "" && m.severity == "" {
		return
	}
	text := m.text
	if m.severity != "" {
		text = m.severity + ": " + text
	}
	for i := 0; i+1 < len(m.extra); i += 2 {
		text += "\n" + strings.ToUpper(m.extra[i].(string)) + ": " + m.extra[i+1].(string)
	}
	f.mu.Lock()
	f.tail = append(f.tail, text)
	if len(f.tail) > tailMessages {
		f.tail = f.tail[1:]
	}
	f.mu.Unlock()

	attrs := []any{"severity", m.severity, "server_pid", m.pid}
	if m.sqlState != "" && m.sqlState != "00000" {
		attrs = append(attrs, "sqlstate", m.sqlState)
	}
	if m.session != "" {
		attrs = append(attrs, "session", m.session)
	}
	f.log.Log(context.Background(), m.level(), m.text, append(attrs, m.extra...)...)
}
