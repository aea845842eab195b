package seatbelt

import "slices"

// What a program of macOS needs before it does anything: names of the system,
// found out by those who ran programs without them.

// machServices may be looked up. Left out although others allow them:
// com.apple.SecurityServer and com.apple.securityd.xpc, which hand out what is
// in the keychain, and com.apple.coreservices.launchservicesd, which starts
// programs outside. allowMachLookup opens each by name.
var machServices = []string{
	"com.apple.audio.systemsoundserver", "com.apple.distributed_notifications@Uv3", "com.apple.FontObjectsServer",
	"com.apple.fonts", "com.apple.logd", "com.apple.lsd.mapdb", "com.apple.PowerManagement.control",
	"com.apple.system.logger", "com.apple.system.notification_center", "com.apple.system.opendirectoryd.libinfo",
	"com.apple.system.opendirectoryd.membership", "com.apple.bsd.dirhelper",
}

// dangerous are those that are left out, and what they stand for.
var dangerous = []string{"com.apple.SecurityServer", "com.apple.securityd.xpc", "com.apple.securityd",
	"com.apple.coreservices.launchservicesd", "com.apple.coreservices.appleevents", "com.apple.CoreServices.coreservicesd",
	"com.apple.tccd", "com.apple.tccd.system", "com.apple.xpc.smd", "com.apple.pasteboard.1"}

// DangerousService reports whether a service hands out secrets or starts
// programs outside: opening it should not be proposed.
func DangerousService(name string) bool { return slices.Contains(dangerous, name) }

// TrustdService verifies certificates for programs that use the system's
// verifier, Go's among them. It reaches out to the network itself, so it is a
// way out.
const TrustdService = "com.apple.trustd.agent"

// appleEventServices let a program drive others, which are not in a sandbox.
var appleEventServices = []string{"com.apple.coreservices.appleevents", "com.apple.CoreServices.coreservicesd",
	"com.apple.coreservices.quarantine-resolver"}

// sysctls may be read, and what begins with a prefix. Without hw.*, zsh and
// libraries that look for features of the processor fail on new systems.
var (
	sysctls = []string{
		"kern.argmax", "kern.bootargs", "kern.hostname", "kern.maxfiles", "kern.maxfilesperproc", "kern.maxproc",
		"kern.ngroups", "kern.osproductversion", "kern.osrelease", "kern.ostype", "kern.osvariant_status",
		"kern.osversion", "kern.secure_kernel", "kern.tcsm_available", "kern.tcsm_enable", "kern.usrstack64",
		"kern.version", "kern.willshutdown", "security.mac.lockdown_mode_state", "sysctl.proc_cputype", "vm.loadavg",
		"machdep.ptrauth_enabled",
	}
	sysctlPrefixes = []string{"hw.", "kern.proc.all", "kern.proc.pgrp.", "kern.proc.pid.", "machdep.cpu.", "net.routetable."}
	sysctlWrites   = []string{"kern.tcsm_enable", "kern.grade_cputype"} // V8 and Java ask how threads are counted
)

// ioctlDevices take file-ioctl.
var ioctlDevices = []string{"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/dtracehelper", "/dev/tty"}
