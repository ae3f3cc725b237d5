package postgres

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResolveURIPrefersTheFlagThenTheFileThenTheEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "uri")
	require.NoError(t, os.WriteFile(file, []byte("postgres://file@h/d\n"), 0o600))
	const flag, env = "postgres://flag@h/d", "host=h user=env dbname=d"

	for _, c := range []struct{ flag, file, env, value, source string }{
		{flag, file, env, flag, "--db.uri"},
		{"", file, env, "postgres://file@h/d", "--db.uri-file " + file},
		{"", "", env, env, "$PROMKEEP_DB_URI"},
		{"", "", "", "", ""},
	} {
		got, err := ResolveURI(c.flag, c.file, c.env)
		require.NoError(t, err)
		require.Equal(t, URI{Value: c.value, Source: c.source}, got)
	}
}

func TestResolveURIErrorsSayWhereAndNeverRepeatPasswords(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for name, c := range map[string]struct{ flag, file, env, want string }{
		"slash in password":  {flag: "postgres://u:xyzzy/plugh@h/d", want: "--db.uri"},
		"colon in password":  {env: "postgres://u:xyzzy:plugh/@h:x/d", want: "$PROMKEEP_DB_URI"},
		"another scheme":     {flag: "mysql://u:xyzzyplugh@h/d", want: "postgres://user:password@host"},
		"keyword form":       {flag: "host=h port=x password=xyzzyplugh", want: "--db.uri"},
		"missing file":       {file: filepath.Join(dir, "none"), want: "no such file"},
		"empty file":         {file: write("empty", " \n"), want: "empty"},
		"two lines":          {file: write("two", "postgres://u:xyzzyplugh@h/d\npostgres://u:xyzzyplugh@h/e\n"), want: "more than one line"},
		"missing CA":         {flag: "postgres://u:xyzzyplugh@h/d?sslmode=verify-ca&sslrootcert=/nowhere/ca.pem", want: "/nowhere/ca.pem"},
		"unknown sslmode":    {flag: "postgres://u:xyzzyplugh@h/d?sslmode=maybe", want: "no PostgreSQL connection string"},
		"bad escape in file": {file: write("escape", "postgres://u:xyzzy%plugh@h/d"), want: "%-escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ResolveURI(c.flag, c.file, c.env)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "xyzzy")
			require.NotContains(t, err.Error(), "plugh")
		})
	}
}

func TestRedactShowsOnlyUserHostAndDatabase(t *testing.T) {
	for uri, want := range map[string]string{
		"":                            "",
		"postgres://u:s3cret@h:6/d":   "postgres://u@h:6/d",
		"postgres://u:s3%40c@[::1]/d": "postgres://u@[::1]:5432/d",
		"postgres://h:6/d?user=u&password=s3cret":       "postgres://u@h:6/d",
		"host=h port=6 user=u password='s3 c' dbname=d": "postgres://u@h:6/d",
		"postgres:///d?host=/run/x&user=u&password=s":   "postgres://u@/d?host=/run/x",
		"postgres://u:s3/cret@h/d":                      "(invalid connection string)",
	} {
		require.Equal(t, want, Redact(uri), uri)
		require.Equal(t, want, URI{Value: uri}.String())
	}
}

func TestHasPassword(t *testing.T) {
	for uri, want := range map[string]bool{
		"postgres://u@h/d":                 false,
		"postgres://u:p@h/d":               true,
		"postgres://u@h/d?password=p":      true,
		"postgres://u@h/password=":         false,
		"host=h user=u":                    false,
		"host=h user=u password = 'a b'":   true,
		"host=h user=u passfile=/password": false,
	} {
		require.Equal(t, want, HasPassword(uri), uri)
	}
}
