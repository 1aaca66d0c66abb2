CASES = []
Unable = None
