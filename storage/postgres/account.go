package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// DefaultUser is the operating system user the server runs as when promkeep itself is started by root.
const DefaultUser = "postgres"

// account is the operating system user the server runs as. PostgreSQL refuses to run as root.
type account struct {
	name       string
	uid        int
	credential *syscall.Credential // nil: the same user as promkeep's
}

// serverAccount is the current user, unless that is root: then the named one.
func serverAccount(name string) (account, error) {
	if os.Geteuid() != 0 {
		a := account{name: strconv.Itoa(os.Geteuid()), uid: os.Geteuid()}
		u, err := user.Current()
		if err != nil {
			return account{}, fmt.Errorf("PostgreSQL needs an entry in /etc/passwd for the user it runs as, but there is none for UID %d: %w", a.uid, err)
		}
		a.name = u.Username
		return a, nil
	}
	if name == "" {
		name = DefaultUser
	}
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("PostgreSQL refuses to run as root, so promkeep, started by root, runs it as user %q: %w "+
			"(create that user, or start promkeep as an ordinary user)", name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return account{}, fmt.Errorf("user %q: UID %q: %w", name, u.Uid, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return account{}, fmt.Errorf("user %q: GID %q: %w", name, u.Gid, err)
	}
	if uid == 0 {
		return account{}, fmt.Errorf("user %q is root, as which PostgreSQL refuses to run", name)
	}
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	// Further groups only matter for reaching the data directory; without them the main group still counts.
	if ids, err := u.GroupIds(); err == nil {
		for _, id := range ids {
			if g, err := strconv.ParseUint(id, 10, 32); err == nil {
				cred.Groups = append(cred.Groups, uint32(g))
			}
		}
	}
	return account{name: name, uid: uid, credential: cred}, nil
}

// attr makes a child process run as the account, in a session of its own: a Ctrl-C at the terminal must reach
// promkeep alone, which then stops the server after it has stopped using it.
func (a account) attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Credential: a.credential}
}

// own gives a file or directory to the account.
func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Lchown(path, int(a.credential.Uid), int(a.credential.Gid))
}

// ownTree gives a directory and everything below it to the account. It is a no-op when the top is theirs already.
func (a account) ownTree(dir string) error {
	if a.credential == nil || ownerOf(dir) == a.uid {
		return nil
	}
	// The top goes last, so that an interrupted pass is taken up again at the next start.
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return a.own(path)
	})
	if err != nil {
		return fmt.Errorf("giving %s to user %q: %w", dir, a.name, err)
	}
	return a.own(dir)
}

// ownerOf returns the UID that owns a path, or -1.
func ownerOf(path string) int {
	fi, err := os.Lstat(path)
	if err != nil {
		return -1
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return -1
	}
	return int(st.Uid)
}

// checkReach fails, naming the directory at fault, when the account cannot enter dir. It asks the kernel instead of
// looking at mode bits, so access control lists and security modules count.
func (a account) checkReach(inst Installation, dir string) error {
	err := a.enter(inst, dir)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	at := string(filepath.Separator)
	for _, part := range append([]string{""}, strings.Split(strings.Trim(dir, at), at)...) {
		at = filepath.Join(at, part)
		if err := a.enter(inst, at); err != nil {
			return fmt.Errorf("the PostgreSQL server runs as user %q, which may not enter %s, so it cannot reach %s: "+
				"choose another data directory (such as /var/lib/promkeep), or let that user in (chmod o+x %s)",
				a.name, at, dir, at)
		}
	}
	return err
}

// enter runs a harmless server program as the account with dir as its working directory.
func (a account) enter(inst Installation, dir string) error {
	cmd := exec.Command(inst.program("postgres"), "--version")
	cmd.Dir = dir
	cmd.Env = serverEnv()
	cmd.SysProcAttr = a.attr()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running %s as user %q in %s: %w", cmd.Path, a.name, dir, err)
	}
	return nil
}

// serverEnv is the environment of server processes: no PG* variable of ours reaches them, and neither does
// NOTIFY_SOCKET, through which a server built with systemd support would tell systemd that promkeep is ready.
func serverEnv() []string {
	env := []string{"LC_ALL=C", "LANG=C"}
	for _, key := range []string{"PATH", "LD_LIBRARY_PATH", "TMPDIR", "HOME"} {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	return env
}
