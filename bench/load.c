/* bench_load PORT KIND [key=value ...]: many clients in a closed loop, and what they saw. Each client keeps `pipeline` requests
 * on the way and sends one more for each reply; threads with an epoll each share the clients out.
 *
 *     KIND     ping set set-wait get get-readonly vsim vsim-readonly (RESP), etcd-json, etcd-grpc (there, a client is a
 *              connection and pipeline the streams on it); or "sync FOLDER": what one synced write costs there
 *     keys     clients=64 pipeline=1 seconds=3 threads=1 value=64 (bytes) keys=100000 wait=1 set=v prefix= pace=0 (all
 *              clients' requests a second; a latency counts from when its request was due. 0: as they can)
 *
 * SIGTERM ends it as if the time was over.
 *
 * Prints one line of name=value: rate (good replies a second), p50_ms p90_ms p99_ms p999_ms max_ms, errors, count and
 * the CPU seconds of this process. */
#include "load.h"
#include "base/os.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUCKETS = 64 * 32, EVENTS = 256, READ_BYTES = 256 << 10, THREADS_MAX = 16, SYNC_BYTES = 8192 };

struct worker {
    pthread_t thread;
    const struct load_options *options;
    unsigned client_count;
    struct load_client *clients;
    struct kith_rng rng;
    int epoll;
    bool measuring;
    uint64_t counts[BUCKETS], good, bad, max_ns, now_ns;
    uint64_t began_ns, ended_ns;
    uint64_t every_ns, next_ns; /* paced: when the next request is due, and whose it is */
    unsigned next_client;
};

static volatile sig_atomic_t stopped;

static void on_stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "%s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

/* 32 steps for each power of two: 3 % wide. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < 64)
        return (unsigned)ns;
    unsigned shift = 58 - (unsigned)__builtin_clzll(ns);
    return shift * 32 + (unsigned)(ns >> shift);
}

static double ns_of(unsigned bucket)
{
    if (bucket < 64)
        return bucket;
    unsigned shift = bucket / 32 - 1;
    return ((double)(bucket % 32 + 32) + 0.5) * (double)(UINT64_C(1) << shift);
}

void load_finished(struct load_client *client, uint64_t number, bool good)
{
    struct worker *worker = client->owner;
    uint64_t took_ns = worker->now_ns - client->began_ns[number % client->ring];
    client->done++;
    if (!worker->measuring)
        return;
    worker->good += good;
    worker->bad += !good;
    worker->counts[bucket_of(took_ns)]++;
    if (took_ns > worker->max_ns)
        worker->max_ns = took_ns;
}

/* --- sockets --- */

static void connect_client(struct load_client *client)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    address.sin_port = htons((uint16_t)atoi(client->options->port));
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("cannot connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
}

/* The buffers are far smaller than what a socket takes at once; what it does not take is tried until it does. */
static void flush(struct load_client *client)
{
    size_t done = 0;
    if (client->out.failed)
        die("out of memory");
    while (done < client->out.length) {
        ssize_t n = send(client->fd, client->out.data + done, client->out.length - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            die("cannot write");
        done += n > 0 ? (size_t)n : 0;
    }
    kith_buf_clear(&client->out);
}

static void fill(struct load_client *client)
{
    struct worker *worker = client->owner;
    while (client->sent - client->done < client->options->pipeline) {
        client->began_ns[client->sent % client->ring] = worker->now_ns;
        client->options->protocol->request(client);
        client->sent++;
    }
    flush(client);
}

static void take_input(struct load_client *client)
{
    struct worker *worker = client->owner;
    char *room = kith_buf_reserve(&client->in, READ_BYTES);
    ssize_t n = room ? recv(client->fd, room, READ_BYTES, 0) : -1;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        die("the server has closed a connection");
    client->in.length += (size_t)n;
    worker->now_ns = kith_os_monotonic_ns();
    int64_t used = client->options->protocol->replies(client, client->in.data, client->in.length);
    if (used < 0)
        die("the server says what makes no sense");
    kith_buf_consume(&client->in, (size_t)used);
    if (!client->in.length && client->in.capacity > READ_BYTES)
        kith_buf_clear(&client->in);
}

/* A request each, in turn. One whose client still waits for its last reply waits with it. */
static void send_due(struct worker *worker)
{
    const struct load_options *o = worker->options;
    while (worker->client_count && worker->next_ns <= worker->now_ns) {
        struct load_client *client = &worker->clients[worker->next_client];
        if (client->sent - client->done >= o->pipeline)
            return;
        client->began_ns[client->sent % client->ring] = worker->next_ns;
        o->protocol->request(client);
        client->sent++;
        flush(client);
        worker->next_client = (worker->next_client + 1) % worker->client_count;
        worker->next_ns += worker->every_ns;
    }
}

static int wait_for_events(struct worker *worker, struct epoll_event *events)
{
    struct timespec wait = {.tv_nsec = 100000000};
    uint64_t now_ns = kith_os_monotonic_ns();
    if (worker->options->pace && worker->next_ns < now_ns + 100000000)
        wait.tv_nsec = worker->next_ns > now_ns ? (long)(worker->next_ns - now_ns) : 1000000;
    return epoll_pwait2(worker->epoll, events, EVENTS, &wait, NULL);
}

/* --- a thread --- */

static void open_clients(struct worker *worker)
{
    const struct load_options *o = worker->options;
    worker->epoll = epoll_create1(0);
    worker->clients = calloc(worker->client_count, sizeof *worker->clients);
    if (!worker->clients || worker->epoll < 0)
        die("out of memory");
    for (unsigned i = 0; i < worker->client_count; i++) {
        struct load_client *client = &worker->clients[i];
        *client = (struct load_client){.options = o, .rng = &worker->rng, .owner = worker};
        client->ring = o->protocol->in_order ? o->pipeline : 64u * o->pipeline;
        client->began_ns = calloc(client->ring, sizeof *client->began_ns);
        if (!client->began_ns)
            die("out of memory");
        connect_client(client);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        if (epoll_ctl(worker->epoll, EPOLL_CTL_ADD, client->fd, &event) != 0)
            die("epoll");
        o->protocol->hello(client);
        if (client->out.length && o->protocol->in_order)
            client->sent++; /* it has a reply */
        flush(client);
    }
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    const struct load_options *o = worker->options;
    struct epoll_event events[EVENTS];
    uint64_t start_ns = kith_os_monotonic_ns(), length_ns = (uint64_t)(o->seconds * 1e9);
    uint64_t warm_ns = start_ns + (o->pace ? 0 : length_ns / 5);
    worker->now_ns = start_ns;
    worker->next_ns = start_ns;
    worker->every_ns = o->pace ? UINT64_C(1000000000) * o->threads / o->pace : 0;
    for (unsigned i = 0; i < worker->client_count && !o->pace; i++)
        fill(&worker->clients[i]);
    for (;;) {
        int n = wait_for_events(worker, events);
        uint64_t now_ns = kith_os_monotonic_ns();
        if (!worker->measuring && now_ns > warm_ns) {
            worker->measuring = true;
            worker->began_ns = now_ns;
        }
        if (worker->measuring && (stopped || now_ns > worker->began_ns + length_ns))
            break;
        for (int i = 0; i < n; i++) {
            take_input(events[i].data.ptr);
            if (!o->pace)
                fill(events[i].data.ptr);
        }
        worker->now_ns = now_ns;
        if (o->pace)
            send_due(worker);
    }
    worker->ended_ns = kith_os_monotonic_ns();
    return NULL;
}

/* --- results --- */

static double percentile_ms(const uint64_t *counts, uint64_t total, double share)
{
    uint64_t wanted = (uint64_t)((double)total * share), sum = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        if ((sum += counts[i]) > wanted)
            return ns_of(i) / 1e6;
    return 0;
}

static void print_latency(const uint64_t *counts, uint64_t total, uint64_t max_ns)
{
    printf("p50_ms=%.4f p90_ms=%.4f p99_ms=%.4f p999_ms=%.4f max_ms=%.4f count=%llu",
           percentile_ms(counts, total, 0.5), percentile_ms(counts, total, 0.9),
           percentile_ms(counts, total, 0.99), percentile_ms(counts, total, 0.999), (double)max_ns / 1e6,
           (unsigned long long)total);
}

static void report(const struct worker *workers, unsigned count)
{
    static uint64_t counts[BUCKETS];
    uint64_t good = 0, bad = 0, max_ns = 0;
    double rate = 0, user, system;
    for (unsigned w = 0; w < count; w++) {
        for (unsigned i = 0; i < BUCKETS; i++)
            counts[i] += workers[w].counts[i];
        good += workers[w].good;
        bad += workers[w].bad;
        rate += (double)workers[w].good * 1e9 / (double)(workers[w].ended_ns - workers[w].began_ns);
        max_ns = workers[w].max_ns > max_ns ? workers[w].max_ns : max_ns;
    }
    kith_os_cpu_seconds(&user, &system);
    printf("rate=%.1f errors=%llu cpu_s=%.3f ", rate, (unsigned long long)bad, user + system);
    print_latency(counts, good + bad, max_ns);
    printf("\n");
}

/* Records of a batch's size at the end of a file whose blocks are there already, as a log has them. */
static int measure_sync(const char *folder, double seconds)
{
    static uint64_t counts[BUCKETS];
    static char bytes[SYNC_BYTES];
    char path[4096];
    uint64_t total = 0, max_ns = 0, offset = 0, end_ns = kith_os_monotonic_ns() + (uint64_t)(seconds * 1e9);
    snprintf(path, sizeof path, "%s/sync.tmp", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, 64 << 20) != 0 || fsync(fd) != 0)
        die(path);
    memset(bytes, 'x', sizeof bytes);
    for (uint64_t now_ns; (now_ns = kith_os_monotonic_ns()) < end_ns; offset += sizeof bytes) {
        if (pwrite(fd, bytes, sizeof bytes, (off_t)(offset % (64 << 20))) != SYNC_BYTES || fdatasync(fd) != 0)
            die(path);
        uint64_t took_ns = kith_os_monotonic_ns() - now_ns;
        counts[bucket_of(took_ns)]++;
        total++;
        max_ns = took_ns > max_ns ? took_ns : max_ns;
    }
    close(fd);
    unlink(path);
    print_latency(counts, total, max_ns);
    printf("\n");
    return 0;
}

static const struct protocol *find_protocol(const char *name)
{
    for (const struct protocol *p = load_protocols; p->name; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    errno = 0;
    die("no such kind: see the top of bench/load.c");
    return NULL;
}

static void take_option(struct load_options *o, const char *text)
{
    const char *value = strchr(text, '=');
    size_t length = value ? (size_t)(value - text) : 0;
    const struct {
        const char *name;
        unsigned *to;
    } numbers[] = {{"clients", &o->clients}, {"pipeline", &o->pipeline}, {"threads", &o->threads},
                   {"keys", &o->keys},       {"value", &o->value_bytes}, {"wait", &o->wait},
                   {"pace", &o->pace}};
    if (value && strncmp(text, "seconds", length) == 0) {
        o->seconds = atof(value + 1);
        return;
    }
    if (value && (strncmp(text, "set", length) == 0 || strncmp(text, "prefix", length) == 0)) {
        *(*text == 's' ? &o->set : &o->prefix) = value + 1;
        return;
    }
    for (size_t i = 0; value && i < sizeof numbers / sizeof *numbers; i++)
        if (strncmp(text, numbers[i].name, length) == 0) {
            *numbers[i].to = (unsigned)strtoul(value + 1, NULL, 10);
            return;
        }
    errno = 0;
    die(text);
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS_MAX];
    struct load_options o = {.clients = 64,
                             .pipeline = 1,
                             .threads = 1,
                             .value_bytes = 64,
                             .keys = 100000,
                             .wait = 1,
                             .seconds = 3,
                             .set = "v",
                             .prefix = ""};
    if (argc < 3)
        die("usage: bench_load PORT KIND [key=value ...], bench_load sync FOLDER [seconds=3]");
    for (int i = 3; i < argc; i++)
        take_option(&o, argv[i]);
    if (strcmp(argv[1], "sync") == 0)
        return measure_sync(argv[2], o.seconds);
    signal(SIGTERM, on_stop);
    o.port = argv[1];
    o.protocol = find_protocol(argv[2]);
    if (o.threads > THREADS_MAX || !o.threads || o.clients < o.threads || !o.pipeline || !o.keys ||
        o.seconds <= 0)
        die("an option makes no sense");
    for (unsigned w = 0; w < o.threads; w++) {
        workers[w].options = &o;
        workers[w].client_count = o.clients / o.threads + (w < o.clients % o.threads);
        kith_rng_seed(&workers[w].rng, w + 1);
        open_clients(&workers[w]);
    }
    for (unsigned w = 1; w < o.threads; w++)
        if (pthread_create(&workers[w].thread, NULL, run, &workers[w]) != 0)
            die("no thread");
    run(&workers[0]);
    for (unsigned w = 1; w < o.threads; w++)
        pthread_join(workers[w].thread, NULL);
    report(workers, o.threads);
    return 0;
}
