/* Copyright (c) 2026, the gpufleet.vllm contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A stand-in for libnvidia-ml.so.1 under the real nvidia-ml-py. Symbols, structures, versions of structures and error
 * codes are those that pynvml.py of nvidia-ml-py 11.525.150 and 13.615.71 calls. STAND_IN_NVML names the file that
 * describes the machine to play; profiles/README.md says how. With -DDRIVER_470 it lacks what drivers before 510 lack.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, VERSION_MISMATCH = 25
};
enum { LINK_GPU = 0, LINK_SWITCH = 2, LINK_UNKNOWN = 0xff };

#define MIB 1048576ULL
#define NONE (-1)
#define NO_INSTANCE 0xffffffffu
#define MAX_GPUS 16
#define MAX_LINKS 18
#define MAX_SLOTS 7

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct {
    char bus_id_legacy[16];
    unsigned int domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} pci_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } process_t;
typedef struct {
    unsigned int multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gpu_slices, compute_slices;
    unsigned long long memory_mb;
} attributes_t;
typedef struct {
    unsigned int version;
    unsigned char cluster[16];
    int status;
    unsigned int clique, state, health;
} fabric_v2_t;

typedef struct { unsigned int gpu, memory; } utilization_t;

typedef struct { int type, up; char bus[32]; } link_t;
typedef struct { char function[64]; int code; } failure_t;

typedef struct device {
    char uuid[96], name[96], bus[32];
    unsigned long long total, reserved, used; /* MiB; NONE total: not supported */
    int major, minor, persistence, ecc, ecc_volatile, ecc_aggregate, mig, rows[4], pages[3];
    unsigned long long throttle;
    int temperature, power, limit, busy[2], nvlink_version, links, fabric_state, fabric_status, numa, bridge, pci_switch;
    link_t link[MAX_LINKS];
    process_t process[2][8]; /* that compute, that draw */
    unsigned int processes[2];
    failure_t failure[8];
    int failures;
    int gpu_instance, compute_instance;
    attributes_t attributes;
    struct device *slot[MAX_SLOTS];
} device_t;

static struct {
    int loaded, init, cuda, p2p_read, p2p_write, p2p_link;
    unsigned int count;
    char driver[80];
    device_t gpu[MAX_GPUS];
    failure_t failure[8];
    int failures;
} machine = {.p2p_link = NONE};

/* ---- the profile */

static void broken(const char *line) {
    fprintf(stderr, "stand-in NVML: cannot read the line: %s\n", line);
    abort();
}

static void read_line(char *line) {
    static const device_t blank = {
        .ecc = NONE, .mig = NONE, .rows = {NONE}, .pages = {NONE}, .throttle = 1, .power = NONE, .limit = NONE, .temperature = 40,
        .busy = {NONE}};
    char copy[512], *key, *rest = line;
    device_t *gpu = machine.count ? &machine.gpu[machine.count - 1] : NULL;
    int n, a, b, c, d, e, f;
    unsigned long long x, y, z;
    snprintf(copy, sizeof copy, "%s", line);
    key = strsep(&rest, " ");
    if (!rest) rest = "";
    if (!strcmp(key, "driver")) { snprintf(machine.driver, sizeof machine.driver, "%s", rest); return; }
    if (!strcmp(key, "cuda")) { machine.cuda = atoi(rest); return; }
    if (!strcmp(key, "init")) { machine.init = atoi(rest); return; }
    if (!strcmp(key, "p2p")) {
        if (sscanf(rest, "%d %d %d", &machine.p2p_read, &machine.p2p_write, &machine.p2p_link) != 3) broken(copy);
        return;
    }
    if (!strcmp(key, "gpu")) {
        device_t *next = &machine.gpu[machine.count++];
        *next = !strcmp(rest, "same") && gpu ? *gpu : blank;
        return;
    }
    if (!strcmp(key, "fail")) {
        failure_t *failure = gpu ? &gpu->failure[gpu->failures++] : &machine.failure[machine.failures++];
        if (sscanf(rest, "%63s %d", failure->function, &failure->code) != 2) broken(copy);
        return;
    }
    if (!gpu) broken(copy);
    if (!strcmp(key, "uuid")) snprintf(gpu->uuid, sizeof gpu->uuid, "%s", rest);
    else if (!strcmp(key, "name")) snprintf(gpu->name, sizeof gpu->name, "%s", rest);
    else if (!strcmp(key, "name_byte")) snprintf(gpu->name, sizeof gpu->name, "%c", (int)strtol(rest, NULL, 0));
    else if (!strcmp(key, "bus")) snprintf(gpu->bus, sizeof gpu->bus, "%s", rest);
    else if (!strcmp(key, "memory")) {
        if (sscanf(rest, "%llu %llu %llu", &gpu->total, &gpu->reserved, &gpu->used) != 3) broken(copy);
    } else if (!strcmp(key, "capability")) {
        if (sscanf(rest, "%d.%d", &gpu->major, &gpu->minor) != 2) broken(copy);
    } else if (!strcmp(key, "persistence")) gpu->persistence = atoi(rest);
    else if (!strcmp(key, "ecc")) {
        if (sscanf(rest, "%d %d %d", &gpu->ecc, &gpu->ecc_volatile, &gpu->ecc_aggregate) != 3) broken(copy);
    } else if (!strcmp(key, "rows")) {
        if (sscanf(rest, "%d %d %d %d", &gpu->rows[0], &gpu->rows[1], &gpu->rows[2], &gpu->rows[3]) != 4) broken(copy);
    } else if (!strcmp(key, "pages")) {
        if (sscanf(rest, "%d %d %d", &gpu->pages[0], &gpu->pages[1], &gpu->pages[2]) != 3) broken(copy);
    } else if (!strcmp(key, "throttle")) gpu->throttle = strtoull(rest, NULL, 0);
    else if (!strcmp(key, "temperature")) gpu->temperature = atoi(rest);
    else if (!strcmp(key, "power")) {
        if (sscanf(rest, "%d %d", &gpu->power, &gpu->limit) != 2) broken(copy);
    } else if (!strcmp(key, "busy")) {
        if (sscanf(rest, "%d %d", &gpu->busy[0], &gpu->busy[1]) != 2) broken(copy);
    } else if (!strcmp(key, "mig")) gpu->mig = atoi(rest);
    else if (!strcmp(key, "fabric")) {
        if (sscanf(rest, "%d %d", &gpu->fabric_state, &gpu->fabric_status) != 2) broken(copy);
    } else if (!strcmp(key, "place")) {
        if (sscanf(rest, "%d %d %d", &gpu->numa, &gpu->bridge, &gpu->pci_switch) != 3) broken(copy);
    } else if (!strcmp(key, "no_nvlink")) gpu->links = 0;
    else if (!strcmp(key, "nvlink_down")) gpu->link[atoi(rest)].up = 0;
    else if (!strcmp(key, "nvlink")) {
        char end[32];
        if (sscanf(rest, "%d %d %31s", &a, &gpu->nvlink_version, end) != 3 || gpu->links + a > MAX_LINKS) broken(copy);
        for (n = gpu->links, gpu->links += a; n < gpu->links; n++) {
            link_t *link = &gpu->link[n];
            link->up = 1;
            link->type = !strcmp(end, "switch") ? LINK_SWITCH : !strcmp(end, "unknown") ? LINK_UNKNOWN : LINK_GPU;
            snprintf(link->bus, sizeof link->bus, "%s", link->type == LINK_GPU ? end : "FFFFFFFF:FFFF:FF.F");
        }
    } else if (!strcmp(key, "process")) {
        char kind, used[16];
        n = sscanf(rest, "%c %d %15s %d", &kind, &a, used, &b);
        if (n < 3) broken(copy);
        process_t *process = &gpu->process[kind == 'g'][gpu->processes[kind == 'g']++];
        *process = (process_t){a, !strcmp(used, "unknown") ? ~0ULL : strtoull(used, NULL, 10) * MIB,
                               n == 4 ? (unsigned int)b : NO_INSTANCE, NO_INSTANCE};
    } else if (!strcmp(key, "mig_device")) {
        device_t *part = calloc(1, sizeof *part);
        *part = blank;
        if (sscanf(rest, "%d %d %d %d %d %d %llu %llu %llu %95s %95[^\n]", &a, &b, &c, &d, &e, &f, &x, &y, &z,
                   part->uuid, part->name) != 11 || a >= MAX_SLOTS)
            broken(copy);
        part->gpu_instance = b;
        part->compute_instance = c;
        part->attributes = (attributes_t){.multiprocessors = f, .gpu_slices = d, .compute_slices = e, .memory_mb = x};
        part->total = x, part->reserved = y, part->used = z;
        gpu->slot[a] = part;
    } else broken(copy);
}

static void load(void) {
    const char *path = getenv("STAND_IN_NVML");
    char line[512];
    if (machine.loaded) return;
    machine.loaded = 1;
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) broken(path ? path : "STAND_IN_NVML is not set");
    while (fgets(line, sizeof line, file)) {
        char *start = line + strspn(line, " ");
        start[strcspn(start, "\n")] = 0;
        if (*start && *start != '#') read_line(start);
    }
    fclose(file);
}

static int failing(const failure_t *failure, int count, const char *function) {
    for (int i = 0; i < count; i++)
        if (!strcmp(failure[i].function, "*") || !strcmp(failure[i].function, function)) return failure[i].code;
    return SUCCESS;
}

/* Every query of a card begins with this: it fails as the profile says. */
#define QUERY(device) do { \
    int code_ = failing((device)->failure, (device)->failures, __func__); \
    if (code_) return code_; \
} while (0)
#define SYSTEM() do { \
    int code_ = failing(machine.failure, machine.failures, __func__); \
    if (code_) return code_; \
} while (0)

static int copy(char *out, unsigned int size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

/* A value, or NOT_SUPPORTED where the profile does not give it. */
static int value(unsigned int *out, int known) {
    if (known == NONE) return NOT_SUPPORTED;
    *out = known;
    return SUCCESS;
}

/* ---- the library */

int nvmlInitWithFlags(unsigned int flags) { (void)flags; load(); return machine.init; }
int nvmlShutdown(void) { SYSTEM(); return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the stand-in"; }
int nvmlSystemGetDriverVersion(char *out, unsigned int size) { SYSTEM(); return copy(out, size, machine.driver); }
int nvmlSystemGetCudaDriverVersion(int *out) { SYSTEM(); *out = machine.cuda; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned int *out) { SYSTEM(); *out = machine.count; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device_t **out) {
    if (index >= machine.count) return INVALID_ARGUMENT;
    QUERY(&machine.gpu[index]);
    *out = &machine.gpu[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(device_t *d, char *out, unsigned int size) { QUERY(d); return copy(out, size, d->uuid); }
int nvmlDeviceGetName(device_t *d, char *out, unsigned int size) { QUERY(d); return copy(out, size, d->name); }

int nvmlDeviceGetMemoryInfo(device_t *d, memory_t *out) {
    QUERY(d);
    if (!d->total) return NOT_SUPPORTED;
    *out = (memory_t){d->total * MIB, (d->total - d->reserved - d->used) * MIB, (d->reserved + d->used) * MIB};
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(device_t *d, int *major, int *minor) {
    QUERY(d);
    *major = d->major;
    *minor = d->minor;
    return SUCCESS;
}

static int pci(pci_t *out, const char *bus) {
    memset(out, 0, sizeof *out);
    return copy(out->bus_id, sizeof out->bus_id, bus);
}

int nvmlDeviceGetPciInfo_v3(device_t *d, pci_t *out) { QUERY(d); return pci(out, d->bus); }
int nvmlDeviceGetPersistenceMode(device_t *d, unsigned int *out) { QUERY(d); return value(out, d->persistence); }

int nvmlDeviceGetEccMode(device_t *d, unsigned int *current, unsigned int *pending) {
    QUERY(d);
    return value(current, d->ecc) || value(pending, d->ecc) ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(device_t *d, unsigned int type, unsigned int counter, unsigned long long *out) {
    QUERY(d);
    if (d->ecc < 1) return NOT_SUPPORTED;
    *out = type == 0 ? 99 : counter == 0 ? d->ecc_volatile : d->ecc_aggregate; /* type 0 is corrected, nobody asks */
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(device_t *d, unsigned int *corrected, unsigned int *uncorrected, unsigned int *pending,
                              unsigned int *failed) {
    QUERY(d);
    if (d->rows[0] == NONE) return NOT_SUPPORTED;
    *corrected = d->rows[0], *uncorrected = d->rows[1], *pending = d->rows[2], *failed = d->rows[3];
    return SUCCESS;
}

int nvmlDeviceGetRetiredPages(device_t *d, unsigned int cause, unsigned int *count, unsigned long long *out) {
    QUERY(d);
    if (d->pages[0] == NONE || cause > 1) return NOT_SUPPORTED;
    unsigned int there = d->pages[cause];
    if (there && (!out || *count < there)) { *count = there; return INSUFFICIENT_SIZE; }
    for (*count = 0; *count < there; ++*count) out[*count] = 0x1000 * *count;
    return SUCCESS;
}

int nvmlDeviceGetRetiredPagesPendingStatus(device_t *d, unsigned int *out) { QUERY(d); return value(out, d->pages[2]); }

int nvmlDeviceGetCurrentClocksThrottleReasons(device_t *d, unsigned long long *out) {
    QUERY(d);
    *out = d->throttle;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(device_t *d, unsigned int sensor, unsigned int *out) {
    QUERY(d);
    return sensor ? INVALID_ARGUMENT : value(out, d->temperature);
}

int nvmlDeviceGetPowerUsage(device_t *d, unsigned int *out) { QUERY(d); return value(out, d->power); }
int nvmlDeviceGetEnforcedPowerLimit(device_t *d, unsigned int *out) { QUERY(d); return value(out, d->limit); }

/* As the real one, it is not supported where a card is divided into MIG devices. */
int nvmlDeviceGetUtilizationRates(device_t *d, utilization_t *out) {
    QUERY(d);
    if (d->mig == 1) return NOT_SUPPORTED;
    return value(&out->gpu, d->busy[0]) || value(&out->memory, d->busy[1]) ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetMigMode(device_t *d, unsigned int *current, unsigned int *pending) {
    QUERY(d);
    return value(current, d->mig) || value(pending, d->mig) ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(device_t *d, unsigned int *out) { QUERY(d); *out = MAX_SLOTS; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(device_t *d, unsigned int slot, device_t **out) {
    QUERY(d);
    if (slot >= MAX_SLOTS || !d->slot[slot]) return NOT_FOUND;
    *out = d->slot[slot];
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(device_t *d, unsigned int *out) { QUERY(d); *out = d->gpu_instance; return SUCCESS; }
int nvmlDeviceGetComputeInstanceId(device_t *d, unsigned int *out) { QUERY(d); *out = d->compute_instance; return SUCCESS; }
int nvmlDeviceGetAttributes_v2(device_t *d, attributes_t *out) { QUERY(d); *out = d->attributes; return SUCCESS; }

int nvmlDeviceGetNvLinkState(device_t *d, unsigned int link, unsigned int *out) {
    QUERY(d);
    if (!d->links) return NOT_SUPPORTED;
    if (link >= (unsigned int)d->links) return INVALID_ARGUMENT;
    *out = d->link[link].up;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkVersion(device_t *d, unsigned int link, unsigned int *out) {
    QUERY(d);
    return link >= (unsigned int)d->links ? INVALID_ARGUMENT : value(out, d->nvlink_version);
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(device_t *d, unsigned int link, pci_t *out) {
    QUERY(d);
    return link >= (unsigned int)d->links ? INVALID_ARGUMENT : pci(out, d->link[link].bus);
}

int nvmlDeviceGetNvLinkRemoteDeviceType(device_t *d, unsigned int link, unsigned int *out) {
    QUERY(d);
    return link >= (unsigned int)d->links ? INVALID_ARGUMENT : value(out, d->link[link].type);
}

int nvmlDeviceGetTopologyCommonAncestor(device_t *one, device_t *other, unsigned int *out) {
    QUERY(one);
    *out = one->numa != other->numa ? 50 : one->bridge != other->bridge ? 40 : one->pci_switch != other->pci_switch ? 30 : 10;
    return SUCCESS;
}

int nvmlDeviceGetP2PStatus(device_t *one, device_t *other, unsigned int way, unsigned int *out) {
    QUERY(one);
    int linked = 0;
    for (int i = 0; i < one->links; i++)
        linked |= one->link[i].up && (one->link[i].type != LINK_GPU || !strcmp(one->link[i].bus, other->bus));
    if (way > 2) return INVALID_ARGUMENT;
    *out = way == 0 ? machine.p2p_read : way == 1 ? machine.p2p_write : machine.p2p_link != NONE ? machine.p2p_link : linked ? 0 : 5;
    return SUCCESS;
}

static int list(device_t *d, int kind, unsigned int *count, process_t *out) {
    unsigned int there = d->processes[kind];
    if (*count < there) { *count = there; return INSUFFICIENT_SIZE; }
    *count = there;
    for (unsigned int i = 0; i < there; i++) out[i] = d->process[kind][i];
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v2(device_t *d, unsigned int *count, process_t *out) { QUERY(d); return list(d, 0, count, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v2(device_t *d, unsigned int *count, process_t *out) { QUERY(d); return list(d, 1, count, out); }

#ifndef DRIVER_470
int nvmlDeviceGetMemoryInfo_v2(device_t *d, memory_v2_t *out) {
    QUERY(d);
    if (out->version != 0x02000028) return VERSION_MISMATCH;
    if (!d->total) return NOT_SUPPORTED;
    out->total = d->total * MIB;
    out->reserved = d->reserved * MIB;
    out->used = d->used * MIB;
    out->free = out->total - out->reserved - out->used;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device_t *d, unsigned int *count, process_t *out) { QUERY(d); return list(d, 0, count, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(device_t *d, unsigned int *count, process_t *out) { QUERY(d); return list(d, 1, count, out); }

int nvmlDeviceGetGpuFabricInfoV(device_t *d, fabric_v2_t *out) {
    QUERY(d);
    if (out->version != 0x02000024) return VERSION_MISMATCH;
    out->state = d->fabric_state;
    out->status = d->fabric_status;
    return SUCCESS;
}
#endif
