package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// URIEnv is the environment variable that may hold the database URI.
const URIEnv = "PROMKEEP_DB_URI"

// URI is the connection string of a database, URL or keyword/value form, and where it was given. Value may contain a
// password: print String, never Value.
type URI struct {
	Value  string // "" when none is given, which means the embedded server
	Source string // such as "--db.uri", for messages
}

// String is what may be printed, see Redact.
func (u URI) String() string { return Redact(u.Value) }

// ResolveURI finds the database URI: the flag's value, or else the file's only line, or else the environment's
// value. Each may be "". A URI that is no connection string is an error that does not repeat it, because where
// exactly the password is in it cannot be known.
func ResolveURI(flag, file, env string) (URI, error) {
	uri := URI{}
	switch {
	case flag != "":
		uri = URI{Value: flag, Source: "--db.uri"}
	case file != "":
		uri.Source = "--db.uri-file " + file
		b, err := os.ReadFile(file)
		if err != nil {
			return URI{}, fmt.Errorf("database URI from --db.uri-file: %w", err)
		}
		uri.Value = strings.TrimSpace(string(b))
		if uri.Value == "" {
			return URI{}, fmt.Errorf("database URI from %s: the file is empty", uri.Source)
		}
		if strings.ContainsAny(uri.Value, "\r\n") {
			return URI{}, fmt.Errorf("database URI from %s: the file has more than one line", uri.Source)
		}
	case env != "":
		uri = URI{Value: env, Source: "$" + URIEnv}
	default:
		return URI{}, nil
	}
	if _, err := pgx.ParseConfig(uri.Value); err != nil {
		var path *fs.PathError
		if errors.As(err, &path) { // a certificate or key file that is not there
			return URI{}, fmt.Errorf("database URI from %s: %w", uri.Source, path)
		}
		return URI{}, fmt.Errorf("database URI from %s is no PostgreSQL connection string: want "+
			"postgres://user:password@host:port/database, with %%-escapes for special characters in the password",
			uri.Source)
	}
	return uri, nil
}

var passwordKey = regexp.MustCompile(`(^|\s)(ssl)?password\s*=`)

// HasPassword says whether a valid connection string has a password in it, which on a command line every user of the
// machine could see.
func HasPassword(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" {
		return passwordKey.MatchString(uri)
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password") || u.Query().Has("sslpassword")
}

// Redact returns what of a connection string may be printed: user, host, port and database, as a URL.
func Redact(uri string) string {
	if uri == "" {
		return ""
	}
	c, err := pgx.ParseConfig(uri)
	if err != nil {
		return "(invalid connection string)"
	}
	u := url.URL{Scheme: "postgres", User: url.User(c.User), Path: "/" + c.Database}
	if strings.HasPrefix(c.Host, "/") || strings.HasPrefix(c.Host, "@") {
		u.RawQuery = "host=" + c.Host
	} else {
		u.Host = net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
	}
	return u.String()
}
