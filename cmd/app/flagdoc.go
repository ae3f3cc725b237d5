package app

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
)

// FlagDocs writes docs/configuration.md: every flag of every command in Markdown, with its default and what it does. It
// returns only errors of w.
func FlagDocs(w io.Writer) error {
	a := kingpin.New("promkeep", "")
	promslogflag.AddFlags(a, &promslog.Config{})
	newServe(a)
	newMigrate(a)
	newImport(a)

	var b strings.Builder
	b.WriteString(flagDocsHead)
	section(&b, "All commands", "", a.Model().Flags)
	for _, c := range a.Model().Commands {
		if c.Name != "help" {
			section(&b, "`promkeep "+c.Name+"`", c.Help, c.Flags)
			for _, sub := range c.Commands {
				subsection(&b, c.Name, sub)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const flagDocsHead = `<!-- Generated from the flags by "go run ./cmd/internal/flagdoc > docs/configuration.md". Do not edit. -->

# Configuration

promkeep is configured by flags. Three of them name files: ` + "`--web.config.file`" + ` has TLS and basic auth in
[the format of Prometheus' exporters](https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md),
` + "`--write.relabel-config.file`" + ` relabel configs as Prometheus has them, ` + "`--limits.file`" + `
[limits of tenants](operations.md#tenants-and-limits).

Durations are written as in Prometheus (` + "`90d`, `1h30m`" + `), sizes with a unit (` + "`64MiB`, `1GiB`" + `). A flag that may be repeated says
so. ` + "`/api/v1/status/flags`" + ` tells what a running promkeep was given.

Environment variables:

| variable | |
|---|---|
| ` + "`PROMKEEP_DB_URI`" + ` | the URI of the database, with its password if it has one; ` + "`--db.uri` and `--db.uri-file`" + ` come before it |
| ` + "`GOMEMLIMIT`" + ` | what the Go runtime tries to stay below; without it, 70 % of the container's or the machine's memory |
`

// subsection writes what a subcommand does, and the flags that only it has.
func subsection(b *strings.Builder, command string, c *kingpin.CmdModel) {
	usage := "promkeep " + command + " " + c.Name
	for _, a := range c.Args {
		usage += " <" + a.Name + ">"
	}
	fmt.Fprintf(b, "\n`%s`: %s\n", usage, c.Help)
	for _, a := range c.Args {
		fmt.Fprintf(b, "`<%s>`: %s\n", a.Name, a.Help)
	}
	if len(c.Flags) > 0 {
		b.WriteString("\n")
		table(b, c.Flags)
	}
}

// section writes one table of flags.
func section(b *strings.Builder, title, help string, flags []*kingpin.FlagModel) {
	fmt.Fprintf(b, "\n## %s\n\n", title)
	if help != "" {
		fmt.Fprintf(b, "%s\n\n", help)
	}
	table(b, flags)
}

func table(b *strings.Builder, flags []*kingpin.FlagModel) {
	b.WriteString("| flag | default | |\n|---|---|---|\n")
	for _, f := range flags {
		if f.Hidden || strings.HasPrefix(f.Name, "help") {
			continue
		}
		text := strings.Join(strings.Fields(f.Help), " ")
		if repeats, ok := f.Value.(interface{ IsCumulative() bool }); ok && repeats.IsCumulative() && !strings.Contains(text, "epeat") {
			text += " Can be repeated."
		}
		fmt.Fprintf(b, "| `--%s` | %s | %s |\n", f.Name, defaultOf(f), strings.ReplaceAll(text, "|", `\|`))
	}
}

// defaultOf returns the default of a flag as a cell of a table.
func defaultOf(f *kingpin.FlagModel) string {
	switch value := strings.Join(f.Default, ","); {
	case value != "":
		return "`" + value + "`"
	case f.IsBoolFlag():
		return "`false`"
	default:
		return ""
	}
}
