/* hnswlib (Malkov & Yashunin's own), as Debian has it. */
#include "peer.h"

#ifdef WITH_HNSWLIB
#include <hnswlib/hnswlib.h>
#include <memory>

namespace
{

/* Another space's distances, counted. */
class Counting : public hnswlib::SpaceInterface<float>
{
  public:
    explicit Counting(hnswlib::SpaceInterface<float> *space)
        : space(space), state{space->get_dist_func(), space->get_dist_func_param(), 0}
    {
    }
    size_t get_data_size() override
    {
        return space->get_data_size();
    }
    hnswlib::DISTFUNC<float> get_dist_func() override
    {
        return distance;
    }
    void *get_dist_func_param() override
    {
        return &state;
    }
    uint64_t count() const
    {
        return state.count;
    }

  private:
    struct State {
        hnswlib::DISTFUNC<float> distance;
        void *param;
        uint64_t count;
    };
    static float distance(const void *a, const void *b, const void *param)
    {
        auto *state = static_cast<State *>(const_cast<void *>(param));
        state->count++;
        return state->distance(a, b, state->param);
    }
    std::unique_ptr<hnswlib::SpaceInterface<float>> space;
    State state;
};

struct Index {
    std::unique_ptr<hnswlib::SpaceInterface<float>> space;
    Counting *counting = nullptr; /* space, or null */
    std::unique_ptr<hnswlib::HierarchicalNSW<float>> graph;
};

void *open_index(const peer_options *options)
{
    auto *index = new Index;
    if (options->l2)
        index->space.reset(new hnswlib::L2Space(options->dim));
    else
        index->space.reset(new hnswlib::InnerProductSpace(options->dim));
    if (options->counting) {
        index->counting = new Counting(index->space.release());
        index->space.reset(index->counting);
    }
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

uint64_t evaluations(void *index)
{
    auto *counting = static_cast<Index *>(index)->counting;
    return counting ? counting->count() : 0;
}

void close_index(void *index)
{
    delete static_cast<Index *>(index);
}

} // namespace

const peer *peer_hnswlib(void)
{
    static const peer self = {"hnswlib", open_index, add, nullptr, search, close_index, evaluations};
    return &self;
}

#else

const peer *peer_hnswlib(void)
{
    return nullptr;
}

#endif
