/* hnswlib (Malkov & Yashunin's own), as Debian has it. */
#include "peer.h"

#ifdef WITH_HNSWLIB
#include <hnswlib/hnswlib.h>
#include <memory>

namespace
{

struct Index {
    std::unique_ptr<hnswlib::SpaceInterface<float>> space;
    std::unique_ptr<hnswlib::HierarchicalNSW<float>> graph;
};

void *open_index(const peer_options *options)
{
    auto *index = new Index;
    if (options->l2)
        index->space.reset(new hnswlib::L2Space(options->dim));
    else
        index->space.reset(new hnswlib::InnerProductSpace(options->dim));
    index->graph.reset(new hnswlib::HierarchicalNSW<float>(index->space.get(), options->rows, options->m,
                                                           options->ef_construction));
    return index;
}

void add(void *index, uint32_t row, const float *vector)
{
    static_cast<Index *>(index)->graph->addPoint(vector, row);
}

uint32_t search(void *index, const float *query, uint32_t ef, uint32_t k, uint32_t *rows)
{
    auto *graph = static_cast<Index *>(index)->graph.get();
    graph->setEf(ef);
    auto found = graph->searchKnn(query, k);
    uint32_t count = 0;
    for (; !found.empty(); found.pop())
        rows[count++] = static_cast<uint32_t>(found.top().second);
    return count;
}

void close_index(void *index)
{
    delete static_cast<Index *>(index);
}

} // namespace

const peer *peer_hnswlib(void)
{
    static const peer self = {"hnswlib", open_index, add, nullptr, search, close_index};
    return &self;
}

#else

const peer *peer_hnswlib(void)
{
    return nullptr;
}

#endif
