/* faiss's HNSW over float32 and over 8-bit scalar codes, as Debian has it. The codes are trained on all rows, so the
 * index is made when the last row has come. */
#include "peer.h"

#ifdef WITH_FAISS
#include <faiss/IndexHNSW.h>
#include <memory>
#include <omp.h>
#include <vector>

namespace
{

struct Index {
    peer_options options;
    bool sq8;
    std::vector<float> rows;
    std::unique_ptr<faiss::IndexHNSW> graph;
};

void *open_index(const peer_options *options, bool sq8)
{
    omp_set_num_threads(1);
    auto *index = new Index{*options, sq8, {}, nullptr};
    index->rows.reserve(size_t(options->rows) * options->dim);
    return index;
}

void *open_flat(const peer_options *options)
{
    return open_index(options, false);
}

void *open_sq8(const peer_options *options)
{
    return open_index(options, true);
}

void add(void *index, uint32_t, const float *vector)
{
    auto *self = static_cast<Index *>(index);
    self->rows.insert(self->rows.end(), vector, vector + self->options.dim);
}

void finish(void *index)
{
    auto *self = static_cast<Index *>(index);
    const peer_options &o = self->options;
    /* Of normalised rows the order by L2 is the order by cosine. */
    if (self->sq8)
        self->graph.reset(new faiss::IndexHNSWSQ(int(o.dim), faiss::ScalarQuantizer::QT_8bit, int(o.m)));
    else
        self->graph.reset(new faiss::IndexHNSWFlat(int(o.dim), int(o.m)));
    self->graph->hnsw.efConstruction = int(o.ef_construction);
    self->graph->train(o.rows, self->rows.data());
    self->graph->add(o.rows, self->rows.data());
    self->rows = std::vector<float>();
}

uint32_t search(void *index, const float *query, uint32_t ef, uint32_t k, uint32_t *rows)
{
    auto *self = static_cast<Index *>(index);
    float distances[1000];
    faiss::Index::idx_t ids[1000];
    self->graph->hnsw.efSearch = int(ef);
    self->graph->search(1, query, k, distances, ids);
    uint32_t count = 0;
    for (uint32_t i = 0; i < k; i++)
        if (ids[i] >= 0)
            rows[count++] = uint32_t(ids[i]);
    return count;
}

void close_index(void *index)
{
    delete static_cast<Index *>(index);
}

} // namespace

const peer *peer_faiss_flat(void)
{
    static const peer self = {"faiss flat", open_flat, add, finish, search, close_index};
    return &self;
}

const peer *peer_faiss_sq8(void)
{
    static const peer self = {"faiss SQ8", open_sq8, add, finish, search, close_index};
    return &self;
}

#else

const peer *peer_faiss_flat(void)
{
    return nullptr;
}

const peer *peer_faiss_sq8(void)
{
    return nullptr;
}

#endif
