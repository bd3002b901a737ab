// Exercises the native module without Python: every operation on a lumpy ball, half of it behind the camera in one view,
// on several threads at once, compared with one thread. Built with sanitizers by test_sanitizers.py.
//
// Usage: scene [repeats of the timing loop [picture size]]

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels.h"
#include "memory.h"
#include "raster.h"

namespace {

using namespace headlab;

struct Mesh {
    std::vector<double> vertices;
    std::vector<int32_t> faces;
};

Mesh ball(int rows, int columns) {
    Mesh m;
    const double pi = std::acos(-1.0);
    for (int i = 0; i <= rows; ++i)
        for (int j = 0; j < columns; ++j) {
            const double t = pi * i / rows, p = 2 * pi * j / columns, r = 1 + 0.1 * std::sin(5 * t) * std::cos(4 * p);
            for (double x : {r * std::sin(t) * std::cos(p), r * std::cos(t), r * std::sin(t) * std::sin(p)}) m.vertices.push_back(x);
        }
    for (int i = 0; i < rows; ++i)
        for (int j = 0; j < columns; ++j) {
            const int a = i * columns + j, b = i * columns + (j + 1) % columns, c = a + columns, d = b + columns;
            for (int v : {a, b, c, b, d, c}) m.faces.push_back(v);
        }
    return m;
}

template <class T>
std::vector<Vertex<T>> look(const Mesh& m, int size, double distance) {
    std::vector<Vertex<T>> points;
    for (size_t i = 0; i < m.vertices.size(); i += 3) {
        const double z = m.vertices[i + 2] + distance, f = 1.1 * size;
        points.push_back({T(f * m.vertices[i] + size * 0.5 * z), T(f * m.vertices[i + 1] + size * 0.5 * z), T(z), T(z)});
    }
    return points;
}

template <class T>
struct Result {
    std::vector<int32_t> face, near_face;
    std::vector<T> values;

    bool operator==(const Result& other) const {
        return face == other.face && near_face == other.near_face && values.size() == other.values.size() &&
               std::memcmp(values.data(), other.values.data(), values.size() * sizeof(T)) == 0;
    }
};

void require(Status status) {
    if (status != Status::ok) std::printf("status %d\n", static_cast<int>(status)), std::exit(1);
}

template <class T>
Result<T> run(const Mesh& m, int size, int threads, int layers, double distance) {
    const std::vector<Vertex<T>> one = look<T>(m, size, distance);
    std::vector<Vertex<T>> points = one;
    points.insert(points.end(), one.begin(), one.end());
    const int64_t batch = 2, verts = static_cast<int64_t>(one.size()), channels = 9;
    const Faces faces{m.faces.data(), false, false, static_cast<int64_t>(m.faces.size() / 3)};
    const size_t hits = static_cast<size_t>(batch) * size * size * layers;
    Result<T> r;
    r.face.resize(hits);
    std::vector<T> bary(3 * hits), depth(hits), values(hits * channels), attributes(verts * channels), ga(attributes.size());
    std::vector<T> gb(3 * hits);
    for (size_t i = 0; i < attributes.size(); ++i) attributes[i] = T(i % 17) / 17;
    std::vector<Vertex<T>> gp(points.size());
    const T near_plane = T(0.05);
    require(rasterize<T>({points.data(), batch, verts, faces, size, size, layers, near_plane, false, threads, r.face.data(),
                          bary.data(), depth.data()}));
    const int64_t pixels = static_cast<int64_t>(size) * size * layers;
    require(interpolate<T>({attributes.data(), false, batch, verts, channels, pixels, faces, threads, r.face.data(),
                            bary.data(), values.data()}));
    require(interpolate_backward<T>({attributes.data(), false, batch, verts, channels, pixels, faces, threads, r.face.data(),
                                     bary.data(), values.data(), ga.data(), gb.data()}));
    require(rasterize_backward<T>({points.data(), batch, verts, faces, size, size, layers, threads, r.face.data(), gb.data(),
                                   depth.data(), gp.data()}));
    for (const auto* v : {&bary, &depth, &values, &ga, &gb}) r.values.insert(r.values.end(), v->begin(), v->end());
    const T* flat = reinterpret_cast<const T*>(gp.data());
    r.values.insert(r.values.end(), flat, flat + 4 * gp.size());
    if (layers == 1) {
        std::vector<T> image(hits), out(hits), gi(hits);
        for (size_t i = 0; i < hits; ++i) image[i] = T(r.face[i] >= 0);
        const AntialiasArgs<T> args{points.data(), batch, verts, 1, faces, size, size, near_plane, threads, r.face.data(),
                                    depth.data(), image.data(), out.data()};
        require(antialias<T>(args));
        require(antialias_backward<T>(args, out.data(), gi.data(), gp.data()));
        for (const auto* v : {&out, &gi}) r.values.insert(r.values.end(), v->begin(), v->end());
    }
    std::vector<T> vertices(m.vertices.begin(), m.vertices.end()), normals(vertices.size()), gv(vertices.size());
    const NormalsArgs<T> normal_args{vertices.data(), 1, verts, faces, threads};
    require(vertex_normals<T>(normal_args, normals.data()));
    require(vertex_normals_backward<T>(normal_args, vertices.data(), gv.data()));
    std::vector<T> queries(vertices.size());
    for (size_t i = 0; i < queries.size(); ++i) queries[i] = vertices[i] * T(1.2) + T(0.01) * T(i % 7);
    r.near_face.resize(static_cast<size_t>(verts));
    std::vector<T> near_bary(queries.size());
    require(closest_point<T>({vertices.data(), false, 1, verts, verts, faces, threads, queries.data(), r.near_face.data(),
                              near_bary.data()}));
    for (const auto* v : {&normals, &gv, &near_bary}) r.values.insert(r.values.end(), v->begin(), v->end());
    return r;
}

template <class T>
bool check(const Mesh& m) {
    for (double distance : {3.0, 0.3})
        for (int layers : {1, 3}) {
            const Result<T> alone = run<T>(m, 75, 1, layers, distance);
            if (!(alone == run<T>(m, 75, 4, layers, distance))) return false;
            // Two callers at once: one gets the pool, the other works alone.
            Result<T> first, second;
            std::thread caller([&] { first = run<T>(m, 75, 3, layers, distance); });
            second = run<T>(m, 75, 2, layers, distance);
            caller.join();
            if (!(alone == first) || !(alone == second)) return false;
        }
    return true;
}

/// Blocks taken by several threads at once are nobody else's, and the cache stays within its limit.
bool check_cache() {
    BlockCache cache;
    std::atomic<bool> good{true};
    std::vector<std::thread> threads;
    for (int id = 1; id <= 3; ++id)
        threads.emplace_back([&cache, &good, id] {
            for (int i = 0; i < 300; ++i) {
                const size_t bytes = size_t(4096) * (1 + (i * id) % 7);
                auto* block = static_cast<unsigned char*>(cache.take(bytes));
                std::fill(block, block + bytes, static_cast<unsigned char>(id));
                for (size_t k = 0; k < bytes; ++k)
                    if (block[k] != id) good = false;
                cache.give_back(block);
            }
        });
    for (auto& thread : threads) thread.join();
    void* block = cache.take(1 << 20);
    cache.give_back(block);
    void* again = cache.take((1 << 20) - 100);
    good = good && again == block;
    cache.give_back(again);
    for (int i = 0; i < 9; ++i) cache.give_back(cache.take((BlockCache::kLimit >> 2) + (size_t(i) << 27)));
    return good;
}

}  // namespace

int main(int count, char** words) {
    const Mesh small = ball(24, 30);
    const bool good = check<float>(small) && check<double>(small) && check_cache();
    std::printf("%s: %s\n", kernels().name, good ? "same on any number of threads" : "DIFFERENT, or a block shared");
    if (count > 1) {
        const Mesh m = ball(70, 71);
        const int size = count > 2 ? std::atoi(words[2]) : 224;
        const std::vector<Vertex<float>> points = look<float>(m, size, 2.6);
        const Faces faces{m.faces.data(), false, false, static_cast<int64_t>(m.faces.size() / 3)};
        std::vector<int32_t> face(size * size);
        std::vector<float> bary(3 * face.size()), depth(face.size());
        const int repeats = std::atoi(words[1]);
        double best = 1e9;
        for (int i = 0; i < repeats; ++i) {
            const auto start = std::chrono::steady_clock::now();
            require(rasterize<float>({points.data(), 1, static_cast<int64_t>(points.size()), faces, size, size, 1, 1e-3f, false,
                                      1, face.data(), bary.data(), depth.data()}));
            best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        }
        std::printf("at best %.3f ms a picture of %d x %d, %lld faces\n", 1e3 * best, size, size,
                    static_cast<long long>(faces.count));
    }
    return good ? 0 : 1;
}
