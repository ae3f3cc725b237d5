package adapter

import (
	"fmt"
	"mime"
	"net/http"
	"strings"
)

// protocol is a version of remote write.
type protocol int

const (
	unknownProtocol protocol = iota
	protocolV1
	protocolV2
	protocols
)

func (p protocol) String() string { return [...]string{"unknown", "1.0", "2.0"}[p] }

const (
	mediaType = "application/x-protobuf"
	messageV1 = "prometheus.WriteRequest"
	messageV2 = "io.prometheus.write.v2.Request"
)

// protocolOf decides by the Content-Type, as both specifications ask for. The version header says nothing more, and real
// senders leave it out.
func protocolOf(h http.Header) (protocol, error) {
	value := h.Get("Content-Type")
	switch value {
	case "", mediaType, mediaType + ";proto=" + messageV1:
		return protocolV1, nil
	case mediaType + ";proto=" + messageV2:
		return protocolV2, nil
	}
	media, params, err := mime.ParseMediaType(value)
	if err != nil {
		return unknownProtocol, fmt.Errorf("Content-Type %q: %w", clip(value, 100), err)
	}
	if media == mediaType {
		switch params["proto"] {
		case "", messageV1:
			return protocolV1, nil
		case messageV2:
			return protocolV2, nil
		}
	}
	return unknownProtocol, fmt.Errorf("Content-Type %q is not supported: send %s with proto=%s or proto=%s",
		clip(value, 100), mediaType, messageV1, messageV2)
}

// checkEncoding refuses bodies that are not compressed with snappy's block format. As in Prometheus, no Content-Encoding means
// snappy as well.
func checkEncoding(h http.Header) error {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "snappy") {
		return fmt.Errorf("Content-Encoding %q is not supported: send snappy", clip(e, 100))
	}
	return nil
}

// clip shortens s to about max bytes.
func clip(s string, max int) string {
	if len(s) <= max {
		return s
	}
	return strings.ToValidUTF8(s[:max], "") + "…"
}
