package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)
