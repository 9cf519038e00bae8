// SPDX-License-Identifier: MIT
// How many CPUs this process may use (process.h): the least of what affinity,
// control groups and Lambda grant. A quota of 1.5 CPUs counts as 2.
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process.h"
#include "process_impl.h"

static int least(int a, int b) { return a < b ? a : b; }

static int ceil_div(long long a, long long b) {
  long long n = a / b + (a % b != 0);
  return n > INT_MAX ? INT_MAX : n < 1 ? 1 : (int)n;
}

// The kernel's own set may be larger than cpu_set_t: it says EINVAL then.
static int affinity(void) {
  for (int bits = 1024; bits <= 1 << 20; bits *= 2) {
    cpu_set_t *set = CPU_ALLOC((size_t)bits);
    if (!set) break;
    size_t size = CPU_ALLOC_SIZE((size_t)bits);
    int r = sched_getaffinity(0, size, set);
    int n = r == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (n > 0) return n;
    if (errno != EINVAL) break;
  }
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 && n < INT_MAX ? (int)n : 1;
}

// Reads the first line of root/mount/group/name. False if there is none.
static bool first_line(const char *const parts[4], char *line, size_t size) {
  char path[PATH_MAX];
  int n = snprintf(path, sizeof path, "%s%s%s/%s", parts[0], parts[1], parts[2],
                   parts[3]);
  if (n < 0 || (size_t)n >= sizeof path) return false;
  FILE *f = fopen(path, "re");
  if (!f) return false;
  bool ok = fgets(line, (int)size, f) != NULL;
  fclose(f);
  return ok;
}

// The quota of one group: "max 100000" or "150000 100000" in version 2, two
// files, -1 for none, in version 1.
static int group_quota(const char *root, const char *mount, const char *group,
                       bool v2) {
  char line[128], period_line[128];
  long long quota, period;
  const char *name = v2 ? "cpu.max" : "cpu.cfs_quota_us";
  if (!first_line((const char *[]){root, mount, group, name}, line,
                  sizeof line))
    return INT_MAX;
  if (v2) {
    if (sscanf(line, "%lld %lld", &quota, &period) != 2) return INT_MAX;
  } else {
    name = "cpu.cfs_period_us";
    if (!first_line((const char *[]){root, mount, group, name}, period_line,
                    sizeof period_line))
      return INT_MAX;
    if (sscanf(line, "%lld", &quota) != 1) return INT_MAX;
    if (sscanf(period_line, "%lld", &period) != 1) return INT_MAX;
  }
  return quota > 0 && period > 0 ? ceil_div(quota, period) : INT_MAX;
}

// The least quota from a group up to the root. In a container the path is often
// the host's, and only its root is there.
static int path_quota(const char *root, const char *mount, const char *path,
                      bool v2) {
  char group[PATH_MAX];
  size_t n = strlen(path);
  if (n >= sizeof group) return INT_MAX;
  memcpy(group, path, n + 1);
  int quota = INT_MAX;
  for (;;) {
    quota = least(quota, group_quota(root, mount, group, v2));
    char *slash = strrchr(group, '/');
    if (!slash) return quota;
    *slash = '\0';
  }
}

// Is `name` one of a list like "cpu,cpuacct"?
static bool lists(const char *list, const char *name) {
  size_t n = strlen(name);
  for (const char *at = list; at; at = strchr(at, ',')) {
    if (*at == ',') at++;
    if (strncmp(at, name, n) == 0 && (at[n] == ',' || at[n] == '\0'))
      return true;
  }
  return false;
}

// A line of /proc/self/cgroup: "4:cpu,cpuacct:/path", or "0::/path" in version 2.
static int line_quota(const char *root, char *line) {
  line[strcspn(line, "\n")] = '\0';
  char *list = strchr(line, ':');
  char *path = list ? strchr(list + 1, ':') : NULL;
  if (!path) return INT_MAX;
  *list++ = '\0';
  *path++ = '\0';
  if (*list == '\0')
    return least(path_quota(root, "/sys/fs/cgroup", path, true),
                 path_quota(root, "/sys/fs/cgroup/unified", path, true));
  if (!lists(list, "cpu")) return INT_MAX;
  char mount[PATH_MAX];
  snprintf(mount, sizeof mount, "/sys/fs/cgroup/%s", list);
  return least(path_quota(root, "/sys/fs/cgroup/cpu", path, false),
               path_quota(root, mount, path, false));
}

int process_cpu_quota(const char *root) {
  char *line = NULL;
  size_t size = 0;
  int quota = INT_MAX;
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
  FILE *f = fopen(path, "re");
  if (!f) return quota;
  while (getline(&line, &size, f) > 0)
    quota = least(quota, line_quota(root, line));
  free(line);
  fclose(f);
  return quota;
}

// Lambda gives a CPU's worth of time for every 1769 MB.
static int lambda_quota(void) {
  const char *s = getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");
  long long mb;
  if (!s || sscanf(s, "%lld", &mb) != 1 || mb <= 0) return INT_MAX;
  return ceil_div(mb, 1769);
}

int process_cpu_count(void) {
  return least(affinity(), least(process_cpu_quota(""), lambda_quota()));
}
