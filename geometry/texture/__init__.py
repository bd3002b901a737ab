"""UV textures of heads: statistical albedo, unwrapping photos, filling what no photo shows."""
