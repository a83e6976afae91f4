/* Copyright (c) 2026, the gpufleet.vllm contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A stand-in for libnvidia-ml.so.1 under the real nvidia-ml-py. Symbols, structures and error codes are those that
 * pynvml.py of nvidia-ml-py 13.615.71 calls. FAKE_NVML_PROFILE names the machine to play.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, RM_VERSION_MISMATCH = 18, UNKNOWN = 999
};

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct {
    char bus_id_legacy[16];
    unsigned int domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} pci_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } process_t;

typedef struct device {
    const char *uuid, *name, *bus_id;
    unsigned long long mib_total, mib_used;
    int major, minor, persistence, ecc /* -1: not supported */, mig /* -1: not supported */;
    int handle_error;  /* what nvmlDeviceGetHandleByIndex answers */
    int query_error;   /* what every query answers */
    int process_error;
    unsigned int n_compute, n_graphics;
    process_t compute[3], graphics[3];
    int gpu_instance, compute_instance;
    const struct device *slots[7];
} device_t;

typedef struct { const char *name; int init_error; const char *driver; int cuda; unsigned int count; const device_t *devices[4]; } profile_t;

#define NOT_AVAILABLE 0xffffffffffffffffULL
#define MIB 1048576ULL

static const device_t rtx4090 = {
    "GPU-4090aaaa-0000-0000-0000-000000000001", "NVIDIA GeForce RTX 4090", "00000000:01:00.0", 24564, 1100, 8, 9, 0, -1, -1,
    .n_compute = 1, .compute = {{4242, 700 * MIB, 0xffffffff, 0xffffffff}},
    .n_graphics = 2, .graphics = {{1200, 300 * MIB, 0xffffffff, 0xffffffff}, {4242, 700 * MIB, 0xffffffff, 0xffffffff}}};
static const device_t h100_0 = {
    "GPU-h1000000-0000-0000-0000-000000000000", "NVIDIA H100 80GB HBM3", "00000000:18:00.0", 81559, 70000, 9, 0, 1, 1, 0,
    .n_compute = 2, .compute = {{100, 69000 * MIB, 0xffffffff, 0xffffffff}, {101, NOT_AVAILABLE, 0xffffffff, 0xffffffff}}};
static const device_t h100_1 = {
    "GPU-h1000000-0000-0000-0000-000000000001", "NVIDIA H100 80GB HBM3", "00000000:2A:00.0", 81559, 600, 9, 0, 1, 1, 0,
    .process_error = NO_PERMISSION};
static const device_t mig_3g = {
    "MIG-a1000000-0000-0000-0000-00000000003a", "NVIDIA A100-SXM4-40GB MIG 3g.20gb", NULL, 19968, 37, 8, 0, 1, 1, -1,
    .gpu_instance = 2, .compute_instance = 0};
static const device_t mig_1g = {
    "MIG-a1000000-0000-0000-0000-00000000001a", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", NULL, 4864, 12, 8, 0, 1, 1, -1,
    .gpu_instance = 9, .compute_instance = 0};
static const device_t a100 = {
    "GPU-a1000000-0000-0000-0000-000000000000", "NVIDIA A100-SXM4-40GB", "00000000:07:00.0", 40960, 500, 8, 0, 1, 1, 1,
    .slots = {&mig_3g, NULL, &mig_1g}};
static const device_t no_handle = {.handle_error = GPU_IS_LOST};
static const device_t lost_later = {
    "GPU-dead0000-0000-0000-0000-000000000002", "NVIDIA H100 80GB HBM3", "00000000:3A:00.0", 81559, 0, 9, 0, 1, 1, 0,
    .query_error = GPU_IS_LOST};
static const device_t odd_name = {
    "GPU-0dd00000-0000-0000-0000-000000000000", "\xff\xfe", "00000000:01:00.0", 24564, 10, 8, 9, 0, -1, -1};

static const profile_t profiles[] = {
    {"no_module", DRIVER_NOT_LOADED},
    {"mismatch", RM_VERSION_MISMATCH},
    {"no_permission", NO_PERMISSION},
    {"broken", UNKNOWN},
    {"no_card", 0, "580.95.05", 13000, 0},
    {"rtx4090", 0, "570.124.06", 12080, 1, {&rtx4090}},
    {"h100x2", 0, "580.95.05", 13000, 2, {&h100_0, &h100_1}},
    {"a100_mig", 0, "550.163.01", 12040, 1, {&a100}},
    {"one_lost", 0, "580.95.05", 13000, 3, {&h100_1, &no_handle, &lost_later}},
    {"all_lost", 0, "580.95.05", 13000, 1, {&no_handle}},
    {"odd_name", 0, "580.95.05", 13000, 1, {&odd_name}},
};

static const profile_t *profile(void) {
    const char *name = getenv("FAKE_NVML_PROFILE");
    for (size_t i = 0; name && i < sizeof profiles / sizeof *profiles; i++)
        if (!strcmp(profiles[i].name, name)) return &profiles[i];
    abort();
}

#define QUERY(device) if ((device)->query_error) return (device)->query_error

static int copy(char *out, unsigned int size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return profile()->init_error; }
int nvmlInit_v2(void) { return profile()->init_error; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the stand-in"; }
int nvmlSystemGetDriverVersion(char *out, unsigned int size) { return copy(out, size, profile()->driver); }
int nvmlSystemGetCudaDriverVersion(int *out) { *out = profile()->cuda; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned int *out) { *out = profile()->count; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, const device_t **out) {
    if (index >= profile()->count) return INVALID_ARGUMENT;
    *out = profile()->devices[index];
    return (*out)->handle_error;
}

int nvmlDeviceGetUUID(const device_t *d, char *out, unsigned int size) { QUERY(d); return copy(out, size, d->uuid); }
int nvmlDeviceGetName(const device_t *d, char *out, unsigned int size) { QUERY(d); return copy(out, size, d->name); }

int nvmlDeviceGetMemoryInfo(const device_t *d, memory_t *out) {
    QUERY(d);
    out->total = d->mib_total * MIB;
    out->used = d->mib_used * MIB;
    out->free = out->total - out->used;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(const device_t *d, int *major, int *minor) {
    QUERY(d);
    *major = d->major;
    *minor = d->minor;
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(const device_t *d, pci_t *out) {
    QUERY(d);
    memset(out, 0, sizeof *out);
    return copy(out->bus_id, sizeof out->bus_id, d->bus_id);
}

int nvmlDeviceGetPersistenceMode(const device_t *d, int *out) { QUERY(d); *out = d->persistence; return SUCCESS; }

int nvmlDeviceGetEccMode(const device_t *d, int *current, int *pending) {
    QUERY(d);
    if (d->ecc < 0) return NOT_SUPPORTED;
    *current = *pending = d->ecc;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(const device_t *d, unsigned int *current, unsigned int *pending) {
    QUERY(d);
    if (d->mig < 0) return NOT_SUPPORTED;
    *current = *pending = d->mig;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(const device_t *d, unsigned int *out) { QUERY(d); *out = 7; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(const device_t *d, unsigned int slot, const device_t **out) {
    if (slot >= 7 || !d->slots[slot]) return NOT_FOUND;
    *out = d->slots[slot];
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(const device_t *d, unsigned int *out) { *out = d->gpu_instance; return SUCCESS; }
int nvmlDeviceGetComputeInstanceId(const device_t *d, unsigned int *out) { *out = d->compute_instance; return SUCCESS; }

static int list(const device_t *d, unsigned int n, const process_t *from, unsigned int *count, process_t *out) {
    QUERY(d);
    if (d->process_error) return d->process_error;
    if (*count < n) { *count = n; return INSUFFICIENT_SIZE; }
    *count = n;
    for (unsigned int i = 0; i < n; i++) out[i] = from[i];
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(const device_t *d, unsigned int *count, process_t *out) {
    return list(d, d->n_compute, d->compute, count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(const device_t *d, unsigned int *count, process_t *out) {
    return list(d, d->n_graphics, d->graphics, count, out);
}
