"""Convert official archives of data sets to the layout that configs expect."""
