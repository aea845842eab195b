package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// makeWorld makes every IPv4 address one of this network namespace's own:
// whatever is sent, anywhere, arrives at the servers here, and nothing leaves.
func makeWorld(dir string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	route := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL,
		Scope: netlink.SCOPE_HOST, Src: net.IPv4(127, 0, 0, 1)}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("make every address local: %w", err)
	}
	return ownResolver(dir)
}

// ownResolver covers /etc/resolv.conf, in this mount namespace alone, with one
// that names the DNS server here.
func ownResolver(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	path, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // 127.0.0.1 is what a resolver asks then (resolv.conf(5))
	}
	if err != nil {
		return err
	}
	own := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(own, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(own, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount own resolv.conf: %w", err)
	}
	return nil
}
